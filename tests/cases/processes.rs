//! The separate programs, as they are really deployed: `quickstart --write`, and what is killed and started again.

use std::path::Path;

use hybrid_runner_tests::deployment::{
    Deployment, PLANE, SLOW, assert_ends_well, assert_same_export, committed, last_number, read, undisturbed,
};
use hybrid_runner_tests::processes::{command, output, program};
use hybrid_runner_tests::world::write;

#[tokio::test]
async fn a_run_that_is_cancelled_from_the_command_line_stops_and_commits_nothing() {
    let deployment = Deployment::written(&SLOW).await;
    let org = deployment.start_org().await;
    let mut plane = deployment.start_plane("plane.log").await;
    let mut agent = deployment.start_agent("agent.log");
    let durable = |log: &str| last_number(log, "batch durable", "next_seq").filter(|next| *next > 50).map(|_| ());
    plane.until("some of the run is durable", durable).await;
    let run_id = deployment.shown_run(None).await["run_id"].as_str().unwrap().to_owned();
    let said = deployment.control_plane(&["cancel", &run_id]).await.stdout;
    assert!(said.contains("cancelled and commits nothing"), "{said}");
    agent.until("the agent knows", |log| log.contains("the run was cancelled").then_some(())).await;
    let shown = deployment.shown_run(Some(&run_id)).await;
    assert_eq!((&shown["state"], &shown["complete"]), (&"cancelled".into(), &false.into()));
    assert_eq!(deployment.export().await, "");
    // A second time there is nothing to cancel, and the next run is a run as any other.
    let mut again = command(&program("control-plane"));
    again.args(["cancel", &run_id, "--config", PLANE]).current_dir(deployment.dir.path());
    let again = output(again).await;
    assert_eq!(again.code(), 2, "{again:?}");
    assert!(again.stderr.contains("is cancelled already"), "{again:?}");
    assert_eq!(deployment.run_again(&mut plane).await["complete"], true);
    assert_same_export(&deployment.export().await, &undisturbed("240").await);
    assert_ends_well([agent, plane, org]).await;
    deployment.assert_quiet(&["sandbox.log", "plane.log", "agent.log"], &["a push ends"]);
}

#[tokio::test]
async fn without_a_workflow_the_pipelines_of_the_control_plane_are_checked_and_no_agent_is_disturbed() {
    let deployment = Deployment::written(&["--objects", "40", "--describe-ms", "0"]).await;
    // The org is not there: nothing is asked of it.
    let plane = deployment.start_plane("plane.log").await;
    let (_, argv) = deployment.commands.iter().find(|(name, _)| name == "hybrid-runner").unwrap();
    let config = argv.iter().skip_while(|word| *word != "--config").nth(1).unwrap();
    let mut check = command(Path::new(&argv[0]));
    check.args(["secrets", "check", "--json", "--config", config]).current_dir(deployment.dir.path());
    let checked = output(check).await;
    assert_eq!(checked.code(), 0, "{checked:?}");
    let rows = checked.json();
    let rows = rows.as_array().unwrap();
    assert!(
        !rows.is_empty() && rows.iter().all(|row| row["pipeline"] == "quickstart" && row["ok"] == true),
        "{rows:?}"
    );
    let run = deployment.shown_run(None).await;
    assert_eq!((&run["state"], &run["attempt"]), (&"queued".into(), &0.into()), "it takes no run");
    let pipelines = deployment.control_plane(&["pipelines", "--json"]).await.json();
    assert_eq!(pipelines[0]["agents"], serde_json::json!([]), "it is no agent");
    assert_ends_well([plane]).await;
    deployment.assert_quiet(&["plane.log"], &[]);
}

#[tokio::test]
async fn three_programs_started_in_order_in_a_copy_do_what_quickstart_does() {
    let deployment = Deployment::written(&["--objects", "40", "--describe-ms", "0"]).await;
    let names: Vec<&str> = deployment.commands.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["sandbox", "control-plane", "hybrid-runner"]);
    for (name, argv) in &deployment.commands {
        assert!(Path::new(&argv[0]).is_absolute() && argv[0].ends_with(name), "{argv:?}");
        assert!(argv[1..].iter().all(|word| !Path::new(word).is_absolute()), "a path that the copy has not: {argv:?}");
    }
    // Started without waiting for each other, as a supervisor of processes would.
    let org = deployment.start("sandbox", "sandbox.log");
    let mut plane = deployment.start("control-plane", "plane.log");
    plane.until("the control plane listens", |log| log.contains("control plane listens").then_some(())).await;
    let agent = deployment.start_agent("agent.log");
    plane.until("the commit", |log| committed(log, "")).await;
    let run = deployment.shown_run(None).await;
    assert_eq!(
        (&run["state"], &run["complete"], &run["attempt"]),
        (&"committed".into(), &true.into(), &1.into()),
        "{run}"
    );
    assert_same_export(&deployment.export().await, &undisturbed("40").await);

    // The next run finds everything as it was and sends nothing.
    let again = deployment.run_again(&mut plane).await;
    assert_eq!(again["state"], "committed", "{again}");
    assert_eq!((&again["sent"], &again["changed"], &again["deleted"]), (&0.into(), &0.into(), &0.into()), "{again}");
    assert_eq!(again["unchanged"], run["entities"], "{again}");
    assert_eq!(again["entities"], run["entities"], "{again}");

    assert_ends_well([agent, plane, org]).await;
    deployment.assert_quiet(&["sandbox.log", "plane.log", "agent.log"], &[]);
}

#[tokio::test]
async fn an_agent_killed_in_the_middle_and_started_again_ends_in_the_same_entities() {
    let deployment = Deployment::written(&SLOW).await;
    deployment.change(PLANE, "agents: agents.yaml", "agents: agents.yaml\nlease: {ttl: 2s, heartbeat: 400ms}");
    let org = deployment.start_org().await;
    let mut plane = deployment.start_plane("plane.log").await;
    let agent = deployment.start_agent("agent-1.log");
    plane
        .until("the first batches", |log| last_number(log, "batch durable", "next_seq").filter(|&next| next > 3))
        .await;
    agent.kill().await;
    assert_eq!(committed(&plane.log(), ""), None, "it was killed in the middle");
    assert_eq!(deployment.export().await, "", "nothing of it is visible");

    let agent = deployment.start_agent("agent-2.log");
    plane.until("the commit", |log| committed(log, "")).await;
    let run = deployment.shown_run(None).await;
    assert_eq!((&run["state"], &run["complete"]), (&"committed".into(), &true.into()), "{run}");
    assert_eq!(run["attempt"], 1, "a lost agent does not count: {run}");
    assert_same_export(&deployment.export().await, &undisturbed("240").await);

    assert_ends_well([agent, plane, org]).await;
    deployment.assert_quiet(&["sandbox.log", "plane.log", "agent-2.log"], &["the lease of a run was ended"]);
}

#[tokio::test]
async fn a_control_plane_killed_in_the_middle_and_started_again_loses_nothing_it_acknowledged() {
    let deployment = Deployment::written(&SLOW).await;
    let org = deployment.start_org().await;
    let mut plane = deployment.start_plane("plane-1.log").await;
    let agent = deployment.start_agent("agent.log");
    plane
        .until("the first batches", |log| last_number(log, "batch durable", "next_seq").filter(|&next| next > 3))
        .await;
    plane.kill().await;
    let before = read(deployment.dir.path(), "plane-1.log");
    let durable = last_number(&before, "batch durable", "next_seq").unwrap();
    assert_eq!(committed(&before, ""), None, "it was killed in the middle");

    let mut plane = deployment.start_plane("plane-2.log").await;
    plane.until("the commit", |log| committed(log, "")).await;
    let went_on = last_number(&plane.log(), "push opened", "next_seq").unwrap();
    assert!(went_on >= durable, "{durable} records were durable, and it went on at {went_on}");
    let run = deployment.shown_run(None).await;
    assert_eq!(
        (&run["state"], &run["complete"], &run["attempt"]),
        (&"committed".into(), &true.into(), &1.into()),
        "{run}"
    );
    assert_same_export(&deployment.export().await, &undisturbed("240").await);

    assert_ends_well([agent, plane, org]).await;
    deployment.assert_quiet(&["sandbox.log", "plane-1.log", "plane-2.log"], &[]);
    deployment.assert_quiet(&["agent.log"], &["no session with the control plane", "upload broke"]);
}

#[tokio::test]
async fn an_agent_added_by_certificate_or_token_is_let_in_with_the_configuration_that_was_written() {
    let deployment = Deployment::written(&["--objects", "20", "--describe-ms", "0"]).await;
    let org = deployment.start_org().await;
    let mut plane = deployment.start_plane("plane.log").await;
    let mut run_id = deployment.shown_run(None).await["run_id"].as_str().unwrap().to_owned();
    let written = read(deployment.dir.path(), "hybrid-runner.yaml");
    let line = |key: &str| written.lines().find(|line| line.trim_start().starts_with(key)).unwrap();
    let rest = written.split_once("\nsecrets:").unwrap().1;
    let program = program("hybrid-runner").display().to_string();
    for (name, more) in [("by-certificate", &[][..]), ("by-token", &["--token"])] {
        // The control plane runs: it notices.
        let add = [&["agent", "add", name, "--out", "identities"][..], more].concat();
        deployment.control_plane(&add).await;
        let values = read(deployment.dir.path(), &format!("identities/{name}.yaml"));
        let config = format!("{values}{}\n{}\nsecrets:{rest}", line("endpoint:"), line("ca:"));
        let file = format!("{name}.yaml");
        write(deployment.dir.path(), &file, &config);
        let argv = [program.as_str(), "run", "--config", &file].map(str::to_owned);
        let agent = deployment.run(&argv, &format!("{name}.log"));
        plane.until("the commit", |log| committed(log, &run_id)).await;
        let run = deployment.shown_run(Some(&run_id)).await;
        assert_eq!((&run["state"], &run["agent"]), (&"committed".into(), &name.into()), "{run}");
        assert_ends_well([agent]).await;
        if more.is_empty() {
            let queued = deployment.control_plane(&["run", "quickstart", "--json"]).await.json();
            queued[0]["run_id"].as_str().unwrap().clone_into(&mut run_id);
        }
    }
    assert_ends_well([plane, org]).await;
    // An agent that is faster than the control plane's look at the list is refused once and comes again.
    let logs = ["sandbox.log", "plane.log", "by-certificate.log", "by-token.log"];
    deployment.assert_quiet(&logs, &["no session with the control plane"]);
}
