//! Values that are refused, and what is said then.

use tempfile::TempDir;

use super::helm::{Helm, scenarios};

/// What `--set` adds to the least scenario, and words of the refusal.
const REFUSED: [(&str, &[&str]); 28] = [
    // A misspelt or dead key, with the near one.
    ("replicas=3", &["'replicas' not allowed", "value must be 'replicaCount'"]),
    ("replicacount=3", &["value must be 'replicaCount'"]),
    ("tollerations[0].key=a", &["value must be 'tolerations'"]),
    ("extraEnvs[0].name=a", &["'extraEnv'"]),
    ("podAnotations.a=b", &["value must be 'podAnnotations'"]),
    ("slot=2", &["value must be 'slots'"]),
    ("controlPlane.endpont=https://a", &["'endpoint'"]),
    ("controlPlane.tls.caBundel.configMap.name=a", &["'caBundle'"]),
    ("image.tagg=1", &["'tag'"]),
    ("log.lvl=debug", &["'level'"]),
    ("secretStores[0].valt.address=https://a", &["'vault'"]),
    ("networkPolicy.cilium.fqdn[0]=a", &["'fqdns'"]),
    // A value that cannot be.
    ("auth.mtls.existingSecret.name=a", &["/auth", "oneOf"]),
    ("auth.token=plain", &["/auth/token", "want object"]),
    ("controlPlane.endpoint=http://plain", &["/controlPlane/endpoint", "^https://"]),
    ("slots=5", &["/slots", "maximum"]),
    ("log.format=xml", &["/log/format", "'json', 'text'"]),
    ("salesforce.proxy.password=literal", &["/salesforce/proxy/password", "^secret:/"]),
    ("proxy.httpsProxy=http://user:password@proxy", &["/proxy/httpsProxy"]),
    ("secretStores[0].env.prefix=A", &["/secretStores/0", "oneOf"]),
    ("image.digest=sha256:short", &["/image/digest"]),
    ("replicaCount=two", &["/replicaCount", "want integer"]),
    ("drain.timeout=soon", &["/drain/timeout"]),
    // What the templates see.
    ("drain.timeout=51s", &["terminationGracePeriodSeconds: 60 is too short for drain.timeout; accepted: 61 or more"]),
    ("defaultStore=other", &["defaultStore: \"other\" is none of secretStores (mounted)"]),
    ("secretStores[1].name=mounted,secretStores[1].env.prefix=A", &["two are called \"mounted\""]),
    ("secretStores[1].name=more,secretStores[1].env.prefix=A", &["defaultStore: is empty", "mounted, more"]),
    ("proxy.httpsProxy=http://proxy,proxy.existingSecret.name=a", &["proxy: httpsProxy stands beside existingSecret"]),
];

#[test]
fn what_is_refused_is_named_and_a_misspelt_key_with_the_one_that_was_meant() {
    let Some(helm) = Helm::find("chart refusals") else { return };
    let minimal = scenarios().into_iter().find(|scenario| scenario.name == "minimal-token").unwrap();
    for (set, words) in REFUSED {
        let said = helm.template(&[&minimal.path], &["--set", set]).expect_err(set);
        for word in words {
            assert!(said.contains(word), "{set}: no {word:?} in: {said}");
        }
    }
}

#[test]
fn without_values_the_two_that_are_required_are_named() {
    let Some(helm) = Helm::find("chart without values") else { return };
    let said = helm.template(&[], &[]).unwrap_err();
    for word in ["/controlPlane/endpoint", "/auth", "'mtls'", "'token'", "'tokenFile'"] {
        assert!(said.contains(word), "no {word} in: {said}");
    }
}

#[test]
fn a_cluster_that_is_too_old_is_refused() {
    let Some(helm) = Helm::find("chart cluster version") else { return };
    let [first, ..] = &scenarios()[..] else { unreachable!() };
    let said = helm.template(&[&first.path], &["--kube-version", "1.28.9"]).unwrap_err();
    assert!(said.contains(">=1.29.0-0"), "{said}");
    assert!(helm.template(&[&first.path], &["--kube-version", "v1.29.0-eks-1"]).is_ok());
}

#[test]
fn vault_by_certificate_needs_the_certificate() {
    let Some(helm) = Helm::find("chart vault by certificate") else { return };
    let folder = TempDir::new().unwrap();
    let values = folder.path().join("values.yaml");
    let text = "controlPlane: {endpoint: 'https://a'}\nauth: {tokenFile: /run/token}\nsecretStores:\n  \
                - {name: vault, vault: {address: 'https://vault', auth: {certificate: {}}}}\n";
    std::fs::write(&values, text).unwrap();
    let said = helm.template(&[&values], &[]).unwrap_err();
    assert!(said.contains("/secretStores/0/vault") && said.contains("'clientCertificate'"), "{said}");
}
