use std::fs;

use hybrid_runner_secrets::{Purpose, Request, Use};
use serde_json::Value;

use super::*;

const MINIMAL: &str = "control_plane: {endpoint: 'https://cp.example:7443', token_file: agent.token}";

fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.yaml");
    fs::write(&path, text).unwrap();
    fs::write(folder.path().join("ca.pem"), "a ca").unwrap();
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Settings::load(Some(&path), &environment)
}

fn load(text: &str) -> Result<Settings, ConfigError> {
    load_with(text, &[])
}

fn refusal(text: &str) -> String {
    load(text).unwrap_err().to_string()
}

fn endpoint(settings: &Settings) -> (String, u16) {
    let control_plane = settings.control_plane.as_ref().unwrap();
    (control_plane.host.clone(), control_plane.port)
}

#[test]
fn the_example_of_the_documentation_loads() {
    let text = "
control_plane:
  endpoint: https://control-plane.example:7443
  ca: ca.pem
  tls: { certificate: agent.pem, key: agent-key.pem }
slots: 3
secrets:
  default: mounted
  stores:
    mounted: { file: { dir: secrets } }
    environment: { env: {} }
    vault:
      vault:
        address: https://vault.example:8200
        namespace: team-a
        mount: team/kv
        prefix: hybrid-runner
        kv_version: 2
        ca: ca.pem
        auth:
          approle: { role_id: agent, secret_id_file: secret-id, mount: approle }
salesforce:
  use_system_proxy: false
  proxy: { url: 'http://proxy:3128', username: agent, password: 'secret:/proxy/password' }
  hosts: [{ host: localhost, port: 8443, ca: ca.pem }]
log: { level: debug, format: json }
";
    let settings = load(text).unwrap();
    assert_eq!(endpoint(&settings), ("control-plane.example".to_owned(), 7443));
    assert_eq!((settings.slots, settings.log.format, settings.has_stores), (3, LogFormat::Json, true));
    assert!(!settings.salesforce.use_system_proxy);
    let Identity::Certificate { certificate: Pem::File(path), .. } =
        settings.into_agent().unwrap().control_plane.identity
    else {
        panic!("a certificate")
    };
    assert!(path.is_absolute() && path.ends_with("agent.pem"), "relative to the file: {path:?}");
}

#[test]
fn an_empty_configuration_has_defaults_and_no_agent() {
    let settings = Settings::load(None, &Environment::default()).unwrap();
    assert_eq!((settings.slots, settings.log.level.as_str()), (AgentConfig::MAX_SLOTS, "info"));
    assert!(settings.into_agent().unwrap_err().to_string().starts_with("control_plane.endpoint: is missing"));
}

#[test]
fn the_time_for_a_drain_is_a_duration_of_at_most_an_hour() {
    let timeout = |text: &str| load(text).unwrap().drain_timeout;
    assert_eq!(timeout("slots: 1"), Duration::from_secs(20));
    assert_eq!(timeout("drain_timeout: 1m 30s"), Duration::from_secs(90));
    assert_eq!(timeout("drain_timeout: 0s"), Duration::ZERO);
    for wrong in ["soon", "-7s", "61m", "17"] {
        let text = refusal(&format!("drain_timeout: '{wrong}'"));
        assert!(text.starts_with("drain_timeout: is a string that is no duration") && !text.contains(wrong), "{text}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_path_and_the_near_one() {
    assert_eq!(
        refusal("control_plane: {endpont: x}"),
        "control_plane.endpont: is not a known key; did you mean `endpoint`?"
    );
    let text = refusal("salesforce: {hosts: [{hots: x}]}");
    assert_eq!(text, "salesforce.hosts[0].hots: is not a known key; did you mean `host`?");
    assert_eq!(
        refusal("vault: {}"),
        "vault: is not a known key; known here: control_plane, drain_timeout, health, log, policy, salesforce, secrets, slots"
    );
}

#[test]
fn a_value_of_another_kind_is_refused_without_being_repeated() {
    assert_eq!(refusal("slots: hunter2"), "slots: found a string; accepted: a number from 1 to 4");
    assert_eq!(refusal("slots: 5"), "slots: found a number; accepted: a number from 1 to 4");
    assert_eq!(refusal("log: {format: xml}"), "log.format: found a string; accepted: text, json");
    assert_eq!(refusal("log: verbose"), "log: found a string; accepted: a mapping of keys to values");
    assert_eq!(refusal("- a"), "the document: found a list; accepted: a mapping of keys to values");
    assert!(refusal("a: [").contains("line 1"), "{}", refusal("a: ["));
}

#[test]
fn every_scalar_key_is_an_environment_variable_too() {
    let settings = load_with(
        MINIMAL,
        &[
            ("HYBRID_RUNNER_CONTROL_PLANE__ENDPOINT", "https://other:1"),
            ("HYBRID_RUNNER_SLOTS", "2"),
            ("HYBRID_RUNNER_SECRETS__STORES__MOUNTED__FILE__DIR", "/run/secrets"),
            ("HYBRID_RUNNER_SALESFORCE__USE_SYSTEM_PROXY", "false"),
            ("HYBRID_RUNNER_SALESFORCE__HOSTS__0__HOST", "localhost"),
            ("HYBRID_RUNNER_SALESFORCE__HOSTS__0__PORT", "8443"),
            ("HYBRID_RUNNER_LOG__FORMAT", "json"),
            ("HYBRID_RUNNER_LOG__LEVEL", ""),
        ],
    )
    .unwrap();
    assert_eq!(endpoint(&settings), ("other".to_owned(), 1));
    assert_eq!((settings.slots, settings.has_stores, settings.log.format), (2, true, LogFormat::Json));
    assert!(!settings.salesforce.use_system_proxy);
    assert_eq!(settings.log.level, "info", "an empty variable sets nothing");
}

#[test]
fn a_variable_that_sets_nothing_is_refused_by_name_and_what_kubernetes_sets_is_not() {
    let text = load_with(MINIMAL, &[("HYBRID_RUNNER_SLOT", "2")]).unwrap_err().to_string();
    assert_eq!(text, "HYBRID_RUNNER_SLOT: sets no known key: `slot` is unknown; did you mean `slots`?");
    let text = load_with(MINIMAL, &[("HYBRID_RUNNER_SLOTS", "many")]).unwrap_err().to_string();
    assert_eq!(text, "HYBRID_RUNNER_SLOTS: accepted: a number from 1 to 4");
    let text = load_with(MINIMAL, &[("HYBRID_RUNNER_SALESFORCE__HOSTS__7__HOST", "x")]).unwrap_err().to_string();
    assert!(text.contains("accepted: 0 to 0"), "{text}");
    load_with(
        MINIMAL,
        &[
            ("HYBRID_RUNNER_SERVICE_HOST", "10.0.0.1"),
            ("HYBRID_RUNNER_PORT_9090_TCP", "tcp://10.0.0.1:9090"),
            ("HYBRID_RUNNER_PORT", "tcp://10.0.0.1:9090"),
            ("HYBRID_RUNNER_CONTROL_PLANE_SERVICE_PORT_GRPC", "7443"),
            ("HYBRID_RUNNER_SECRET_SALESFORCE_PASSWORD", "hunter2"),
        ],
    )
    .unwrap();
}

#[test]
fn an_endpoint_is_https_a_host_and_a_port() {
    for bad in
        ["http://cp:1", "cp:1", "https://", "https://u@cp:1", "https://cp:1/x", "https://cp:1?x=1", "not an address"]
    {
        let text = refusal(&format!("control_plane: {{endpoint: '{bad}', token_file: t}}"));
        assert!(
            text.starts_with("control_plane.endpoint: ") && text.ends_with("accepted: https://host:port"),
            "{text}"
        );
    }
    let settings = load("control_plane: {endpoint: 'https://[::1]', token_file: t}").unwrap();
    assert_eq!(endpoint(&settings), ("[::1]".to_owned(), 443));
}

#[test]
fn an_agent_has_exactly_one_identity() {
    let with = |identity: &str| refusal(&format!("control_plane: {{endpoint: 'https://cp:1', {identity}}}"));
    assert!(with("ca: ca.pem").contains("no identity"));
    assert!(with("tls: {certificate: c, key: k}, token_file: t").starts_with("control_plane.token_file: "));
    assert_eq!(with("tls: {certificate: c}"), "control_plane.tls.key: is missing");
    assert_eq!(with("tls: {key: k}"), "control_plane.tls.certificate: is missing");
}

#[test]
fn stores_are_one_kind_each_and_the_default_is_one_of_them() {
    assert!(refusal("secrets: {default: x}").starts_with("secrets.default: names no store"));
    assert!(refusal("secrets: {stores: {a: {env: {}}, b: {env: {}}}}").starts_with("secrets.default: is missing"));
    assert!(refusal("secrets: {stores: {a: {}}}").starts_with("secrets.stores.a: is one store"));
    assert!(refusal("secrets: {stores: {a: {env: {}, file: {dir: x}}}}").starts_with("secrets.stores.a: is one store"));
    assert_eq!(refusal("secrets: {stores: {a: {file: {}}}}"), "secrets.stores.a.file.dir: is missing");
    assert!(refusal("secrets: {stores: {'a b': {env: {}}}}").contains("no name that a reference can hold"));
    assert!(refusal("secrets: {stores: {literals: {env: {}}}}").contains("reserved"));
    assert!(refusal("secrets: {stores: {a: {env: {prefix: 'A B'}}}}").starts_with("secrets.stores.a.env.prefix: "));
}

#[test]
fn a_proxy_has_an_address_and_its_password_is_a_reference() {
    let with = |proxy: &str| load(&format!("salesforce: {{proxy: {{{proxy}}}}}"));
    let refused = |proxy: &str| with(proxy).unwrap_err().to_string();
    let address = "url: 'http://proxy:3128'";
    let proxy = with(&format!("{address}, username: a, password: 'secret:/p'")).unwrap().salesforce.proxy.unwrap();
    assert_eq!(
        (proxy.url().as_str(), proxy.password().unwrap().to_string()),
        ("http://proxy:3128/", "secret:/p".to_owned())
    );
    assert!(with("").unwrap().salesforce.proxy.is_none() && with(address).unwrap().salesforce.proxy.is_some());
    let text = refused(&format!("{address}, username: a, password: hunter2"));
    assert!(text.starts_with("salesforce.proxy.password: ") && !text.contains("hunter2"), "{text}");
    let text = refused("url: 'http://a:hunter2@proxy:3128'");
    assert!(text.starts_with("salesforce.proxy.url: ") && !text.contains("hunter2"), "{text}");
    assert_eq!(refused(&format!("{address}, username: a")), "salesforce.proxy.password: is missing");
    assert_eq!(refused(&format!("{address}, password: 'secret:/p'")), "salesforce.proxy.username: is missing");
    assert_eq!(refused("username: a, password: 'secret:/p'"), "salesforce.proxy.url: is missing");
}

#[test]
fn the_schema_describes_every_key() {
    fn undescribed(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (key, below) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = schema::join(path, key);
            if below.get("description").is_none() {
                found.push(path.clone());
            }
            undescribed(below, &path, found);
        }
        for below in ["items", "additionalProperties"].iter().filter_map(|key| schema.get(*key)) {
            undescribed(below, path, found);
        }
    }
    let schema = json_schema();
    assert!(schema.pointer("/properties/control_plane/properties/endpoint").is_some(), "{schema:#}");
    let mut found = Vec::new();
    undescribed(&schema, "", &mut found);
    assert_eq!(found, Vec::<String>::new());
    assert!(!schema.to_string().contains("$ref"));
}

#[test]
fn what_is_printed_of_a_configuration_holds_no_secret() {
    let inline = || Pem::Inline(Arc::from(b"hunter2".as_slice()));
    let config = AgentConfig {
        control_plane: ControlPlane {
            host: "cp".to_owned(),
            port: 1,
            ca: Some(inline()),
            identity: Identity::Certificate { certificate: inline(), key: inline() },
            proxy: Some(Proxy {
                is_tls: false,
                host: "proxy".to_owned(),
                port: 3128,
                login: Some(ProxyLogin::Basic(Arc::new(SecretValue::new("agent:hunter2".to_owned())))),
                setting: "HTTPS_PROXY",
            }),
        },
        slots: 1,
        drain_timeout: Duration::ZERO,
        secrets: Arc::default(),
        salesforce: LocalConfig::default(),
        policy: None,
        run_log_bytes: AgentConfig::RUN_LOG_BYTES,
    };
    let token = Identity::Token(Arc::new(SecretValue::new("hunter2".to_owned())));
    let printed = format!("{config:?} {token:?}");
    assert!(!printed.contains("hunter2") && !printed.contains("104, 117"), "{printed}");
}

#[cfg(feature = "vault")]
#[test]
fn a_vault_store_has_an_address_and_one_login() {
    let vault = |keys: &str| load(&format!("secrets: {{stores: {{v: {{vault: {{{keys}}}}}}}}}"));
    let address = "address: 'https://vault:8200'";
    for good in [
        "",
        "auth: {token_file: t}",
        "auth: {kubernetes: {role: agent}}",
        "auth: {jwt: {role: agent, token_file: t}}",
        "client_certificate: c, client_key: k",
        "client_certificate: c, client_key: k, auth: {certificate: {}}",
    ] {
        assert!(vault(&format!("{address}, {good}")).unwrap().has_stores);
    }
    for (keys, refused) in [
        ("mount: kv".to_owned(), ".address: is missing"),
        ("address: 'http://vault:8200'".to_owned(), ".address: is plain HTTP to another machine"),
        ("address: 'https://u:hunter2@vault:8200'".to_owned(), ".address: has more than a host and a port"),
        (format!("{address}, mount: 'a/../b'"), ".mount: is not a path"),
        (format!("{address}, kv_version: 3"), ".kv_version: found a number; accepted: a number from 1 to 2"),
        (format!("{address}, ca: none.pem"), "read the configuration "),
        (format!("{address}, auth: {{approle: {{role_id: r}}}}"), ".auth.approle.secret_id_file: is missing"),
        (format!("{address}, auth: {{kubernetes: {{token_file: t}}}}"), ".auth.kubernetes.role: is missing"),
        (format!("{address}, auth: {{kubernetes: {{role: r, mount: '..'}}}}"), ".auth.kubernetes.mount: is not a path"),
        (format!("{address}, auth: {{token_file: t, approle: {{}}}}"), ".auth: is one login"),
        (format!("{address}, auth: {{jwt: {{role: r}}}}"), ".auth.jwt.token_file: is missing"),
        (format!("{address}, auth: {{jwt: {{role: r, token_file: t}}, token_file: t}}"), ".auth: is one login"),
        (format!("{address}, auth: {{certificate: {{}}}}"), ".client_certificate: is missing"),
        (format!("{address}, client_certificate: c"), ".client_key: is missing"),
        (format!("{address}, client_key: k"), ".client_certificate: is missing"),
        (format!("{address}, token: hunter2"), ".token: is not a known key"),
    ] {
        let text = vault(&keys).unwrap_err().to_string();
        let at = if refused.starts_with('.') { format!("secrets.stores.v.vault{refused}") } else { refused.to_owned() };
        assert!(text.starts_with(&at) && !text.contains("hunter2"), "{text}");
    }
}

#[cfg(feature = "aws")]
#[test]
fn an_aws_store_is_read_and_its_settings_are_checked() {
    let store = |aws: &str| format!("secrets: {{stores: {{prod: {{aws: {aws}}}}}}}");
    for aws in [
        "{}",
        "{region: eu-central-1, endpoint: 'https://vpce-1.example', name_prefix: /salesforce, strip_leading_slash: true}",
        "{role_arn: 'arn:aws:iam::123456789012:role/reader', external_id: id-1, session_name: runner}",
    ] {
        assert!(load(&store(aws)).unwrap().has_stores, "{aws}");
    }
    for (aws, path) in [
        ("{endpoint: 'http://vpce-1.example'}", "secrets.stores.prod.aws.endpoint: is refused"),
        ("{external_id: id-1}", "secrets.stores.prod.aws.external_id: stands alone"),
        ("{regoin: x}", "secrets.stores.prod.aws.regoin: is not a known key; did you mean `region`?"),
        ("{strip_leading_slash: 'yes'}", "secrets.stores.prod.aws.strip_leading_slash: found a string"),
    ] {
        let refusal = refusal(&store(aws));
        assert!(refusal.contains(path), "{refusal}");
    }
    let both = refusal("secrets: {stores: {prod: {aws: {}, env: {}}}}");
    assert_eq!(both, "secrets.stores.prod: is one store; accepted: one of file, env, vault, aws and kubernetes");
}

#[test]
fn a_policy_says_which_secret_may_go_where() {
    let text = "
secrets: { default: a, stores: { a: { prefix: /hybrid-runner, env: {} }, b: { env: {} } } }
policy:
  bindings:
    - references: ['secret:/hybrid-runner/prod/*', 'secret://b/**#password']
      hosts: [login.salesforce.com, '*.my.salesforce.com', 'localhost:8443']
      uses: [oauth, session]
      pipelines: [salesforce_prod.*]
    - { references: ['**'], hosts: ['proxy:3128'], uses: [proxy] }
  networks: [10.20.0.0/16]
";
    let policy = load(text).unwrap().policy;
    let allowed = |reference: &str, store: &str, usage: Use, host: &str| {
        let (host, port) = host.rsplit_once(':').unwrap();
        let purpose = Purpose { usage, host: host.to_owned(), port: port.parse().unwrap() };
        let request = Request {
            reference: &reference.parse().unwrap(),
            store,
            is_default_store: store == "a",
            purpose: &purpose,
            pipeline: Some("salesforce_prod.metadata"),
        };
        policy.decide(&request).is_allowed()
    };
    assert!(allowed("secret:/hybrid-runner/prod/secret", "a", Use::Oauth, "acme.my.salesforce.com:443"));
    assert!(allowed("secret://b/any/thing#password", "b", Use::Session, "localhost:8443"));
    assert!(allowed("secret:/hybrid-runner/x", "a", Use::Proxy, "proxy:3128"));
    assert!(!allowed("secret:/x", "a", Use::Proxy, "proxy:3128"));
    assert!(!allowed("secret:/hybrid-runner/prod/secret", "a", Use::Soap, "acme.my.salesforce.com:443"));
    assert!(policy.names_network_of([10, 20, 3, 4].into()) && !policy.names_network_of([10, 21, 3, 4].into()));
}

#[test]
fn without_bindings_salesforce_its_listed_hosts_and_the_proxy_are_permitted_for_what_they_are() {
    let policy = load("salesforce: {proxy: {url: 'http://proxy:3128'}, hosts: [{host: localhost, port: 8443}]}");
    let policy = policy.unwrap().policy;
    for (usage, host, port, is_allowed) in [
        (Use::Soap, "login.salesforce.com", 443, true),
        (Use::Tls, "localhost", 8443, true),
        (Use::Proxy, "proxy", 3128, true),
        (Use::Soap, "login.salesforce.com", 8443, false),
        (Use::Soap, "localhost", 443, false),
        (Use::Soap, "proxy", 3128, false),
        (Use::Proxy, "login.salesforce.com", 443, false),
        (Use::Soap, "salesforce.com.evil.example", 443, false),
    ] {
        let purpose = Purpose { usage, host: host.to_owned(), port };
        let reference = "secret:/a".parse().unwrap();
        let request =
            Request { reference: &reference, store: "s", is_default_store: true, purpose: &purpose, pipeline: None };
        assert_eq!(policy.decide(&request).is_allowed(), is_allowed, "{purpose}");
    }
}

#[test]
fn a_policy_that_is_mistaken_is_refused_where_the_mistake_is() {
    let with = |keys: &str| refusal(&format!("policy: {{bindings: [{{references: ['**'], hosts: [a]}}, {{{keys}}}]}}"));
    for (keys, begins) in [
        ("hosts: [a]", "policy.bindings[1].references: is empty, so that the binding can never match"),
        ("references: ['**']", "policy.bindings[1].hosts: is empty"),
        ("references: ['**'], hosts: [a], uses: []", "policy.bindings[1].uses: is empty"),
        ("references: ['**'], hosts: [a], pipelines: []", "policy.bindings[1].pipelines: is empty"),
        ("references: ['**', '/a'], hosts: [a]", "policy.bindings[1].references[1]: does not begin with `secret:`"),
        ("references: ['**'], hosts: [a, '*']", "policy.bindings[1].hosts[1]: "),
        ("references: ['**'], hosts: [a], uses: [saop]", "policy.bindings[1].uses[0]: found "),
        ("references: ['**'], hosts: [a], pipelines: ['***']", "policy.bindings[1].pipelines[0]: has three"),
        ("references: ['**'], host: [a]", "policy.bindings[1].host: is not a known key; did you mean `hosts`?"),
    ] {
        let text = with(keys);
        assert!(text.starts_with(begins), "{text}");
    }
    for (text, begins) in [
        ("policy: {bindings: []}", "policy.bindings: is empty and would permit nothing"),
        ("policy: {networks: [10.0.0.1/8]}", "policy.networks[0]: is no network"),
        ("policy: {binding: []}", "policy.binding: is not a known key; did you mean `bindings`?"),
        ("secrets: {stores: {a: {prefix: '..', env: {}}}}", "secrets.stores.a.prefix: is no path of references"),
        ("secrets: {stores: {a: {prefix: /a}}}", "secrets.stores.a: is one store"),
    ] {
        let text = refusal(text);
        assert!(text.starts_with(begins), "{text}");
    }
}

#[cfg(feature = "kubernetes")]
#[test]
fn a_kubernetes_store_has_an_address_of_its_own_or_the_pods() {
    let store = |keys: &str| load(&format!("secrets: {{stores: {{k: {{kubernetes: {{{keys}}}}}}}}}"));
    for good in ["address: 'https://cluster:6443', token_file: token, ca: ca.crt", "address: 'http://127.0.0.1:8001'"] {
        assert!(store(good).unwrap().has_stores, "{good}");
    }
    for (keys, refused) in [
        ("address: 'http://cluster:6443'", ".address: is plain HTTP to another machine"),
        ("address: 'https://u:hunter2@cluster'", ".address: has more than a host and a port"),
        ("token: hunter2", ".token: is not a known key"),
    ] {
        let text = store(keys).unwrap_err().to_string();
        assert!(text.starts_with(&format!("secrets.stores.k.kubernetes{refused}")), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

fn proxy_of(more: &str, variables: &[(&str, &str)]) -> Option<Proxy> {
    let text = format!("control_plane: {{endpoint: 'https://cp.example:7443', token_file: agent.token{more}}}");
    load_with(&text, variables).unwrap().control_plane.unwrap().proxy
}

#[test]
fn the_way_to_the_control_plane_is_that_of_the_configuration_else_of_the_environment() {
    let configured = ", proxy: {url: 'https://proxy.example', username: agent, password: 'secret:/proxy/password'}";
    let variables = [("HTTPS_PROXY", "http://agent:hunter2@other.example:3128")];
    let proxy = proxy_of(configured, &variables).unwrap();
    assert_eq!((proxy.to_string().as_str(), proxy.is_tls), ("proxy.example:443", true));
    assert!(matches!(proxy.login, Some(ProxyLogin::Reference { username, .. }) if username == "agent"));

    let proxy = proxy_of("", &variables).unwrap();
    assert_eq!((proxy.to_string().as_str(), proxy.setting), ("other.example:3128", "HTTPS_PROXY"));
    assert!(!format!("{proxy:?}").contains("hunter2"));
    assert!(matches!(proxy.login, Some(ProxyLogin::Basic(text)) if text.expose() == "agent:hunter2"));
    assert!(proxy_of("", &[]).is_none());
}

#[test]
fn no_proxy_and_use_system_proxy_keep_the_control_plane_out_of_a_proxy() {
    let proxies = ("HTTPS_PROXY", "http://other.example:3128");
    for exception in ["cp.example", ".example", "*", "elsewhere, cp.example"] {
        assert!(proxy_of("", &[proxies, ("NO_PROXY", exception)]).is_none(), "{exception}");
        let configured = ", proxy: {url: 'http://proxy.example:1'}";
        assert!(proxy_of(configured, &[("no_proxy", exception)]).is_none(), "{exception}");
    }
    assert!(proxy_of("", &[proxies, ("NO_PROXY", "p.example")]).is_some());
    assert!(proxy_of(", use_system_proxy: false", &[proxies]).is_none());
    let configured = ", use_system_proxy: false, proxy: {url: 'http://proxy.example:1'}";
    assert!(proxy_of(configured, &[("NO_PROXY", "*")]).is_some());
}

#[test]
fn a_proxy_to_the_control_plane_that_is_none_is_refused_with_its_setting() {
    let text = |proxy: &str| {
        format!("control_plane: {{endpoint: 'https://cp.example:7443', token_file: t, proxy: {{{proxy}}}}}")
    };
    let refused = refusal(&text("url: 'http://ana:hunter2@proxy:1'"));
    assert!(refused.starts_with("control_plane.proxy.url: holds a user name"), "{refused}");
    assert!(!refused.contains("hunter2"));
    assert_eq!(refusal(&text("url: 'http://p:1', username: a")), "control_plane.proxy.password: is missing");
    let refused = load_with(MINIMAL, &[("HTTPS_PROXY", "socks5://proxy:1080")]).unwrap_err().to_string();
    assert!(refused.starts_with("HTTPS_PROXY: is not the address of an HTTP proxy"), "{refused}");
}

#[test]
fn without_bindings_the_password_of_the_proxy_may_go_to_it_and_nowhere_else() {
    let text = "control_plane: {endpoint: 'https://cp.example:7443', token_file: t, \
                proxy: {url: 'http://proxy.example:3128', username: a, password: 'secret:/proxy/password'}}";
    let policy = load(text).unwrap().policy;
    let reference = "secret:/proxy/password".parse().unwrap();
    let permits = |host: &str| {
        let purpose = Purpose { usage: Use::Proxy, host: host.to_owned(), port: 3128 };
        let request =
            Request { reference: &reference, store: "s", is_default_store: true, purpose: &purpose, pipeline: None };
        policy.decide(&request).is_allowed()
    };
    assert!(permits("proxy.example") && !permits("other.example"));
}

#[test]
fn probes_are_answered_where_it_is_said_and_nowhere_else() {
    let listen = |settings: Settings| settings.health.map(|address| address.to_string());
    assert_eq!(listen(load(MINIMAL).unwrap()), None);
    let text = format!("{MINIMAL}\nhealth: {{listen: '0.0.0.0:8080'}}");
    assert_eq!(listen(load(&text).unwrap()).as_deref(), Some("0.0.0.0:8080"));
    let variable = [("HYBRID_RUNNER_HEALTH__LISTEN", "[::1]:9")];
    assert_eq!(listen(load_with(&text, &variable).unwrap()).as_deref(), Some("[::1]:9"));
    let refused = refusal(&format!("{MINIMAL}\nhealth: {{listen: '8080'}}"));
    assert!(refused.starts_with("health.listen: ") && refused.contains("accepted: ADDRESS:PORT"), "{refused}");
}
