//! A real moto server on a free port; it ends when this process does, because its stdin ends then.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_sdk_secretsmanager::config::Credentials;
use aws_sdk_secretsmanager::{Client, config};
use hybrid_runner_secrets::{AwsSettings, AwsStore};

/// Prints the address, then the access key and secret key of a user who may do nothing; with a line on stdin, policies count.
const SERVER: &str = r#"
import sys, urllib.request, boto3
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
endpoint = "http://%s:%s" % server.get_host_and_port()
iam = boto3.client("iam", endpoint_url=endpoint, region_name="eu-central-1",
                   aws_access_key_id="any", aws_secret_access_key="any")
iam.create_user(UserName="nobody")
key = iam.create_access_key(UserName="nobody")["AccessKey"]
print(endpoint, key["AccessKeyId"], key["SecretAccessKey"], flush=True)
if sys.stdin.readline():
    kind = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(endpoint + "/moto-api/reset-auth", b"0", kind)).close()
    print("enforced", flush=True)
    sys.stdin.read()
"#;

pub(crate) struct Moto {
    process: Child,
    output: BufReader<ChildStdout>,
    pub(crate) endpoint: String,
    pub(crate) nobody: (String, String),
}

impl Moto {
    /// `None`: not run.
    pub(crate) fn start(case: &str) -> Option<Self> {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/python/bin/python");
        let has_moto = |python: &Path| {
            let found = Command::new(python).args(["-c", "import moto.moto_server"]).stderr(Stdio::null()).status();
            found.is_ok_and(|status| status.success())
        };
        if !has_moto(&python) {
            let absent =
                format!("{case}: moto is absent; run tools/peers (it needs python3 3.9 or newer with venv and pip)");
            assert!(std::env::var_os("CI").is_none(), "{absent}");
            eprintln!("not run: {absent}");
            return None;
        }
        let mut process = Command::new(python)
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let [endpoint, id, key] = words.try_into().expect("moto did not start");
        Some(Self { process, output, endpoint, nobody: (id, key) })
    }

    pub(crate) fn settings(&self) -> AwsSettings {
        AwsSettings {
            region: Some("eu-central-1".to_owned()),
            endpoint: Some(self.endpoint.clone()),
            ..AwsSettings::default()
        }
    }

    pub(crate) fn store(&self, settings: AwsSettings) -> AwsStore {
        AwsStore::with_loader(settings, || loader("any", "any"))
    }

    /// Another client than the one under test, to write with.
    pub(crate) fn writer(&self) -> Client {
        Client::from_conf(
            config::Builder::new()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("eu-central-1"))
                .endpoint_url(&self.endpoint)
                .credentials_provider(credentials("any", "any"))
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .build(),
        )
    }

    /// From now on requests need a known user whose policies allow them.
    pub(crate) fn enforce_policies(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"enforce\n").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, "enforced\n");
    }

    pub(crate) async fn put(&self, name: &str, value: &str) {
        self.writer().create_secret().name(name).secret_string(value).send().await.unwrap();
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

pub(crate) fn loader(id: &str, key: &str) -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest()).credentials_provider(credentials(id, key))
}

fn credentials(id: &str, key: &str) -> Credentials {
    Credentials::new(id, key, None, None, "test")
}
