//! What an agent is installed with, on a machine and in Kubernetes.

use std::fmt::Write as _;

use anyhow::Context as _;

use super::super::{Failure, refused};
use super::{Add, IdentityFile};

/// The agent's configuration on this machine, as far as it is known here.
pub(super) fn configuration(add: &Add, files: &[(&IdentityFile, String)]) -> Result<String, Failure> {
    let ca = add.ca.as_ref().map(|ca| std::path::absolute(ca).with_context(|| format!("find {}", ca.display())));
    let ca = ca.transpose().map_err(refused)?;
    let mut text =
        format!("# The agent {}: add what is missing, secrets.stores above all (docs/configuration.md).\n", add.name);
    text.push_str("control_plane:\n");
    match &add.endpoint {
        Some(endpoint) => line(&mut text, 2, "endpoint", &quoted(endpoint)),
        None => text.push_str("  # endpoint: https://host:port of this control plane\n"),
    }
    if let Some(ca) = ca {
        line(&mut text, 2, "ca", &quoted(&ca.display().to_string()));
    }
    if !add.token {
        text.push_str("  tls:\n");
    }
    for (file, path) in files {
        line(&mut text, if add.token { 2 } else { 4 }, file.setting, &quoted(path));
    }
    Ok(text)
}

/// The Secret with the identity and, where they are known, the certificates that vouch for the control plane.
pub(super) fn secret(name: &str, identity: &[IdentityFile], ca: Option<&str>) -> String {
    let kind = if identity.len() == 2 { "kubernetes.io/tls" } else { "Opaque" };
    let mut text =
        format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: {}\ntype: {kind}\nstringData:\n", secret_name(name));
    for file in identity {
        line(&mut text, 2, file.key, &quoted(&file.content));
    }
    if let Some(ca) = ca {
        line(&mut text, 2, "ca.crt", &quoted(ca));
    }
    text
}

/// The values of the Helm chart; `secret` is the path of the Secret's manifest.
pub(super) fn values(add: &Add, secret: &str) -> String {
    let name = secret_name(&add.name);
    let method = if add.token { "token" } else { "mtls" };
    let mut text = format!(
        "# The agent {}, in Kubernetes: the values of charts/hybrid-runner. Before it is installed:\n\
         #   kubectl -n NAMESPACE apply -f {secret}\n\
         # Add secretStores. On a machine it is the .yaml beside that file that `hybrid-runner run` takes.\n\
         controlPlane:\n",
        add.name
    );
    match &add.endpoint {
        Some(endpoint) => line(&mut text, 2, "endpoint", &quoted(endpoint)),
        None => text.push_str("  # Not known here (`agent add --endpoint`): give it to helm as --set controlPlane.endpoint=https://host:port\n  endpoint: \"\"\n"),
    }
    if add.ca.is_some() {
        line(&mut text, 2, "tls", &format!("{{caBundle: {{existingSecret: {{name: {name}}}}}}}"));
    }
    text.push_str("auth:\n");
    line(&mut text, 2, method, &format!("{{existingSecret: {{name: {name}}}}}"));
    text
}

/// A name that Kubernetes takes: lower case letters, digits and `-`.
fn secret_name(agent: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = agent.chars().map(plain).collect();
    format!("hybrid-runner-{}", name.trim_matches('-')).trim_end_matches('-').to_owned()
}

/// A JSON string, which is a string of YAML's, too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn line(text: &mut String, indent: usize, key: &str, value: &str) {
    // Writing to a string cannot fail.
    let _written = writeln!(text, "{:indent$}{key}: {value}", "");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_name_makes_a_name_of_kubernetes() {
        for (agent, name) in [
            ("crm", "hybrid-runner-crm"),
            ("CRM_Prod.eu", "hybrid-runner-crm-prod-eu"),
            ("-a-", "hybrid-runner-a"),
            ("...", "hybrid-runner"),
        ] {
            assert_eq!(secret_name(agent), name);
        }
    }
}
