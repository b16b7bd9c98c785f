//! A server that gives prepared answers, one a connection, and keeps what it was asked.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use hybrid_runner_secrets::{AwsSettings, AwsStore};

use crate::moto::loader;

#[derive(Clone)]
pub(crate) struct Stub {
    pub(crate) endpoint: String,
    /// Heads and bodies.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// Answers with these statuses and bodies, and then no more.
    pub(crate) fn answering<const N: usize>(answers: [(u16, &str); N]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stub = Self { endpoint: format!("http://{}", listener.local_addr().unwrap()), requests: Arc::default() };
        let requests = Arc::clone(&stub.requests);
        let mut answers: VecDeque<_> = answers.into_iter().map(|(status, body)| (status, body.to_owned())).collect();
        std::thread::spawn(move || {
            while let Some((status, body)) = answers.pop_front() {
                let (stream, _) = listener.accept().unwrap();
                exchange(stream, status, &body, &requests);
            }
        });
        stub
    }

    pub(crate) fn settings(&self) -> AwsSettings {
        AwsSettings {
            region: Some("eu-central-1".to_owned()),
            endpoint: Some(self.endpoint.clone()),
            ..AwsSettings::default()
        }
    }

    pub(crate) fn store(&self) -> AwsStore {
        AwsStore::with_loader(self.settings(), || loader("AKIDCHAIN", "chain-secret-key"))
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn exchange(stream: TcpStream, status: u16, body: &str, requests: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut request).unwrap(), 0, "the request ends in its head");
    }
    let length = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    let mut content = vec![0; length.unwrap_or_default()];
    reader.read_exact(&mut content).unwrap();
    request += str::from_utf8(&content).unwrap();
    // Before the answer: whoever has it may look.
    requests.lock().unwrap().push(request);
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} Stub\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
}
