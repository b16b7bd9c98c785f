//! What the documentation says of other files is so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hybrid_runner_tests::root;

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every page of the repository; what is built or fetched is none.
fn pages(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = std::fs::read_to_string(&path).unwrap();
            // What stands between two fences is code.
            let prose = text.split("```").step_by(2).collect();
            found.insert(path, prose);
        }
    }
}

fn all_pages() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    pages(&root(), &mut found);
    assert!(found.len() > 20, "{:?}", found.keys());
    found
}

fn headings(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim())
}

/// The anchor that a heading has where Markdown is shown.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// What stands between `begin` and `end`, each time.
fn between<'a>(text: &'a str, begin: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(begin).skip(1).filter_map(move |rest| rest.split_once(end)).map(|(found, _)| found)
}

#[test]
fn every_link_between_pages_leads_to_a_file_and_a_heading_that_exist() {
    let all = all_pages();
    let mut checked = 0;
    for (path, page) in &all {
        let links = between(page, "](", ")").filter(|link| !link.contains("://"));
        for link in links {
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let target = target.canonicalize().unwrap_or_else(|error| panic!("{}: {link}: {error}", path.display()));
            let is_known = |page: &String| headings(page).any(|heading| anchor(heading) == section);
            assert!(
                section.is_empty() || all.get(&target).is_some_and(is_known),
                "{}: {link}: there is no such heading",
                path.display()
            );
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} links were looked at");
}

#[test]
fn every_section_that_a_page_names_in_quotes_exists() {
    let all = all_pages();
    let mut checked = 0;
    for (path, page) in &all {
        for (before, after) in page.match_indices(".md, \"").map(|(at, found)| page.split_at(at + found.len())) {
            let name = before.rsplit([' ', '(', '\n']).nth(1).unwrap().trim_end_matches(',');
            let (section, _) = after.split_once('"').unwrap();
            let named = all.get(&root().join(name)).unwrap_or_else(|| panic!("{}: {name}", path.display()));
            assert!(headings(named).any(|heading| heading == section), "{}: {name}, {section:?}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 2, "only {checked} sections were looked at");
}

#[test]
fn every_alert_of_the_chart_has_a_heading_in_the_operators_manual_and_leads_there() {
    let rules = text("charts/hybrid-runner/templates/prometheusrule.yaml");
    let manual = text("docs/operations.md");
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 3, "{alerts:?}");
    let mut names = BTreeSet::new();
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        let (_, runbook) = alert.split_once("runbook_url: ").unwrap_or_else(|| panic!("{name} has no runbook_url"));
        assert_eq!(runbook.lines().next().unwrap(), format!("docs/operations.md#{}", anchor(name)));
        assert!(names.insert(name), "{name} is there twice");
    }
    let explained: BTreeSet<&str> = headings(&manual).filter(|heading| heading.starts_with("HybridRunner")).collect();
    assert_eq!(explained, names);
}

#[test]
fn every_metric_that_an_alert_or_the_dashboard_asks_for_has_a_row_in_the_operators_manual() {
    let (manual, mut asked) = (text("docs/operations.md"), BTreeSet::new());
    for file in ["templates/prometheusrule.yaml", "dashboards/hybrid-runner.json"] {
        let file = text(&format!("charts/hybrid-runner/{file}"));
        let words = file.split(|c: char| !c.is_alphanumeric() && c != '_');
        asked.extend(words.filter(|word| word.starts_with("hybrid_runner_")).map(str::to_owned));
    }
    assert!(asked.len() > 10, "{asked:?}");
    for metric in asked {
        assert!(manual.contains(&format!("\n| {metric} |")), "{metric}");
    }
}

/// A row of the table of destinations, as far as the chart has to do with it.
struct Destination<'a> {
    name: &'a str,
    port: &'a str,
    values: &'a str,
}

fn destinations(page: &str) -> Vec<Destination<'_>> {
    let rows = page.lines().skip_while(|line| !line.starts_with("| destination |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|')).map(|row| row.trim_matches('|').split('|').map(str::trim));
    rows.map(|mut cells| Destination {
        name: cells.next().unwrap(),
        port: cells.next().unwrap(),
        values: cells.next_back().unwrap(),
    })
    .collect()
}

#[test]
fn everything_that_the_charts_network_policy_permits_is_a_destination_of_the_security_page() {
    let (page, template) = (text("docs/security.md"), text("charts/hybrid-runner/templates/_network.tpl"));
    let policy = text("charts/hybrid-runner/templates/networkpolicy.yaml");
    let rows = destinations(&page);
    assert!(rows.len() > 8, "the table is gone");
    let named = |what: &str| rows.iter().any(|row| row.values.contains(&format!("`{what}`")));
    let word = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '.').collect::<String>();
    let (_, define) = template.split_once("define \"hybrid-runner.destinations\"").unwrap();
    let (define, _) = define.split_once("{{- define ").unwrap();

    // Values that bring an address: of the chart, and of each store.
    let mut values: BTreeSet<String> = define.split(".Values.").skip(1).map(word).collect();
    assert!(values.remove("secretStores") && values.len() > 4, "{values:?}");
    let of_stores = ["(.vault).", "(.kubernetes).", ".aws."];
    for (begin, of_store) in
        of_stores.iter().flat_map(|begin| define.split(begin).skip(1).map(move |rest| (begin, rest)))
    {
        let kind = begin.trim_matches(['(', ')', '.']);
        values.insert(format!("secretStores[].{kind}.{}", word(of_store)));
    }
    assert!(values.len() > 8, "{values:?}");
    for value in &values {
        assert!(named(value), "{value} brings a destination that docs/security.md has not");
    }
    // Hosts that are there without a value.
    let hosts = between(define, "\"https://", "\"").filter(|host| !host.contains("%v"));
    let hosts: Vec<String> = hosts.map(|host| host.replace("%s", "REGION")).collect();
    assert!(hosts.len() > 4, "{hosts:?}");
    for host in hosts {
        assert!(rows.iter().any(|row| row.name.contains(&format!("`{host}`"))), "{host}");
    }
    // Addresses and ports of the policy itself.
    let networks: Vec<&str> = policy.split("cidr: ").skip(1).filter_map(|rest| rest.split('/').next()).collect();
    let networks: Vec<&str> = networks.into_iter().map(|net| net.trim_start_matches('"')).collect();
    let networks: Vec<&str> = networks.into_iter().filter(|net| !net.starts_with('{')).collect();
    assert!(networks.len() > 1, "{networks:?}");
    for network in networks {
        assert!(rows.iter().any(|row| row.name.contains(network)), "{network}");
    }
    let ports: BTreeSet<String> = policy.split("port: ").skip(1).map(word).filter(|port| !port.is_empty()).collect();
    assert!(ports.len() > 3, "{ports:?}");
    for port in ports {
        let has = |row: &Destination<'_>| row.port.split([' ', ',']).any(|shown| shown == port);
        assert!(rows.iter().any(has), "port {port}");
    }
}
