//! A real moto server on a free port; it ends when this process does, because its stdin ends then.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

/// Prints the address, then the access key and secret key of a user who may do nothing. A line on stdin is a secret to put,
/// as its name and value, or nothing: from then on policies count. Each is answered with a line.
const SERVER: &str = r#"
import json, sys, urllib.request, boto3
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
endpoint = "http://%s:%s" % server.get_host_and_port()
def client(service):
    return boto3.client(service, endpoint_url=endpoint, region_name="eu-central-1",
                        aws_access_key_id="any", aws_secret_access_key="any")
iam = client("iam")
iam.create_user(UserName="nobody")
key = iam.create_access_key(UserName="nobody")["AccessKey"]
print(endpoint, key["AccessKeyId"], key["SecretAccessKey"], flush=True)
for line in sys.stdin:
    if put := json.loads(line):
        client("secretsmanager").create_secret(Name=put[0], SecretString=put[1])
    else:
        kind = {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(endpoint + "/moto-api/reset-auth", b"0", kind)).close()
    print("done", flush=True)
"#;

pub(crate) struct Moto {
    process: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
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
        let input = process.stdin.take().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let [endpoint, id, key] = words.try_into().expect("moto did not start");
        Some(Self { process, pipes: Mutex::new((input, output)), endpoint, nobody: (id, key) })
    }

    /// From now on requests need a known user whose policies allow them.
    pub(crate) fn enforce_policies(&self) {
        self.tell(&serde_json::Value::Null);
    }

    pub(crate) fn put(&self, name: &str, value: &str) {
        self.tell(&serde_json::json!([name, value]));
    }

    fn tell(&self, what: &serde_json::Value) {
        let (input, output) = &mut *self.pipes.lock().unwrap();
        writeln!(input, "{what}").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
