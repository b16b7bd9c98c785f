use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

struct Fixed {
    ready: bool,
}

impl Pages for Fixed {
    fn startup(&self) -> Health {
        Health::new(Vec::new())
    }

    fn live(&self) -> Health {
        Health::new(Vec::new()).with("state", "open".into())
    }

    fn ready(&self) -> Health {
        Health::new(if self.ready { Vec::new() } else { vec!["draining".to_owned()] })
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }
}

async fn started(ready: bool) -> (SocketAddr, JoinSet<Infallible>) {
    started_within(DEADLINE, ready).await
}

async fn started_within(deadline: Duration, ready: bool) -> (SocketAddr, JoinSet<Infallible>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_within(deadline, listener, Arc::new(Fixed { ready })));
    (address, tasks)
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
}

#[tokio::test]
async fn each_path_has_its_page_and_what_fails_says_why() {
    let (address, _tasks) = started(false).await;
    let live = get(address, "/health/live").await;
    assert!(
        live.starts_with("HTTP/1.1 200 ") && live.ends_with(r#"{"ok":true,"reasons":[],"state":"open"}"#),
        "{live}"
    );
    let ready = get(address, "/health/ready?verbose").await;
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.ends_with(r#"{"ok":false,"reasons":["draining"]}"#), "{ready}");
    let startup = get(address, "/health/startup").await;
    assert!(startup.starts_with("HTTP/1.1 200 "), "{startup}");
    let metrics = get(address, "/metrics").await;
    assert!(metrics.contains(OPENMETRICS) && metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(get(address, "/").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn nothing_but_get_and_head_is_answered_with_a_page() {
    let (address, _tasks) = started(true).await;
    let post = ask(address, "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc").await;
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
    let head = ask(address, "HEAD /health/ready HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    let long = ask(address, &format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(2 * HEAD))).await;
    assert!(long.starts_with("HTTP/1.1 4"), "{long}");
}

#[tokio::test]
async fn silent_connections_give_their_places_back() {
    let (address, _tasks) = started_within(Duration::from_millis(200), true).await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // It is answered once the deadline of the silent ones is over.
    assert!(get(address, "/health/live").await.starts_with("HTTP/1.1 200 "));
    let closed = silent.first_mut().unwrap().read(&mut [0; 1]).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
}
