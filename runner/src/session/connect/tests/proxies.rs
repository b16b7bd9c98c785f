//! Proxies, good and bad.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::ProxyLogin;

pub(super) const PASSWORD: &str = "pRx4Kq9Zt7Wm";

fn proxy(login: Option<ProxyLogin>) -> Proxy {
    Proxy { is_tls: false, host: "proxy".to_owned(), port: 3128, login, setting: "control_plane.proxy" }
}

fn by_reference() -> Option<ProxyLogin> {
    Some(ProxyLogin::Reference { username: "agent".to_owned(), password: "secret:/proxy/password".parse().unwrap() })
}

/// Reads the head of a request.
async fn head(stream: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// What the agent says of a proxy that answers so, and the request that the proxy saw.
async fn said_of(login: Option<ProxyLogin>, answer: &[u8], hangs_up: bool) -> (String, String) {
    let (dial, mut others) = pipes();
    let connector = connector(control_plane(&Authority::new(), bearer(), Some(proxy(login))), dial);
    let mut seen = String::new();
    let serve = async {
        let mut stream = others.recv().await.unwrap();
        seen = head(&mut stream).await;
        // The agent may have heard enough before all of it is written.
        drop(stream.write_all(answer).await);
        if hangs_up {
            drop(stream.shutdown().await);
        }
        std::future::pending::<()>().await;
    };
    let said = tokio::select! {
        said = refusal(&connector) => said,
        () = serve => unreachable!("it serves on"),
    };
    assert!(said.contains("connect to localhost:7443 through the proxy proxy:3128"), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    (said, seen)
}

#[tokio::test]
async fn a_connection_goes_through_a_tunnel_with_the_password_that_the_reference_names() {
    let authority = Authority::new();
    for (login, header) in [
        // base64 of agent:PASSWORD
        (by_reference(), Some("Proxy-Authorization: Basic YWdlbnQ6cFJ4NEtxOVp0N1dt\r\n")),
        (
            Some(ProxyLogin::Basic(Arc::new(SecretValue::new(format!("agent:{PASSWORD}"))))),
            Some("Proxy-Authorization: Basic YWdlbnQ6cFJ4NEtxOVp0N1dt\r\n"),
        ),
        (None, None),
    ] {
        let (dial, mut others) = pipes();
        let connector = connector(control_plane(&authority, bearer(), Some(proxy(login))), Arc::clone(&dial));
        let serve = async {
            let mut stream = others.recv().await.unwrap();
            let request = head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").await.unwrap();
            let tls = TlsAcceptor::from(Arc::new(authority.server())).accept(stream).await.unwrap();
            (request, tls)
        };
        let (link, (request, _tls)) = tokio::join!(connector.connect(), serve);
        let link = link.unwrap();
        assert_eq!(*dial.asked.lock().unwrap(), ["proxy:3128"]);
        assert!(request.starts_with("CONNECT localhost:7443 HTTP/1.1\r\nHost: localhost:7443\r\n"), "{request}");
        assert_eq!(request.contains("Proxy-Authorization"), header.is_some());
        assert!(header.is_none_or(|header| request.contains(header)), "{request}");
        let is_known = connector.secrets.redactor().scan(PASSWORD.as_bytes());
        assert!(is_known || header.is_none(), "what was sent is looked for in all that leaves");
        assert!(!format!("{link:?} {connector:?}").contains(PASSWORD));
    }
}

#[tokio::test]
async fn a_proxy_that_opens_no_tunnel_is_named_with_what_to_do() {
    let refused = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes();
    let (said, _) = said_of(None, &refused("407 Proxy Authentication Required"), false).await;
    assert!(said.contains("give username and password of control_plane.proxy"), "{said}");
    let (said, seen) = said_of(by_reference(), &refused("407 Proxy Authentication Required"), false).await;
    assert!(said.contains("rejects the user name or the password (407); check those of control_plane.proxy"), "{said}");
    assert!(seen.contains("Proxy-Authorization"), "{seen}");
    let (said, _) = said_of(None, &refused("403 Forbidden"), false).await;
    assert!(said.contains("(status 403); permit CONNECT to localhost:7443"), "{said}");
    let (said, _) = said_of(None, b"SSH-2.0-OpenSSH_9.2\r\n", false).await;
    assert!(said.contains("what answers there is no HTTP proxy"), "{said}");
    // A tunnel whose other end speaks first is none: the control plane waits for the agent.
    let (said, _) = said_of(None, b"HTTP/1.1 200 OK\r\n\r\n<html>", false).await;
    assert!(said.contains("what answers there is no HTTP proxy"), "{said}");
    let (said, _) = said_of(None, b"", true).await;
    assert!(said.contains("it closed the connection before it answered"), "{said}");
    let (said, _) = said_of(None, b"HTTP/1.1 200", false).await;
    assert!(said.contains("it opened no tunnel within 10 s"), "{said}");
}

#[tokio::test]
async fn a_proxy_with_64_kib_of_headers_is_not_read_to_its_end() {
    let long = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'x'; 64 * 1024]].concat();
    let (said, _) = said_of(None, &long, false).await;
    assert!(said.contains("its answer has more than 16 KiB or 100 headers"), "{said}");
    let many = [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"x: y\r\n".repeat(101), b"\r\n"].concat();
    let (said, _) = said_of(None, &many, false).await;
    assert!(said.contains("its answer has more than 16 KiB or 100 headers"), "{said}");
}

#[tokio::test]
async fn a_password_that_cannot_be_read_is_named_and_no_proxy_is_asked() {
    let login =
        Some(ProxyLogin::Reference { username: "agent".to_owned(), password: "secret:/proxy/absent".parse().unwrap() });
    let (dial, _others) = pipes();
    let connector = connector(control_plane(&Authority::new(), bearer(), Some(proxy(login))), Arc::clone(&dial));
    let said = refusal(&connector).await;
    assert!(said.contains("its password (control_plane.proxy.password) cannot be read"), "{said}");
    assert!(dial.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_proxy_that_speaks_tls_hears_nothing_in_clear_and_must_be_vouched_for() {
    let authority = Authority::new();
    let proxy = Proxy { is_tls: true, ..proxy(by_reference()) };
    let (dial, mut others) = pipes();
    let connector = connector(control_plane(&authority, bearer(), Some(proxy)), dial);
    let serve = async {
        let stream = others.recv().await.unwrap();
        // A client that does not know the authority ends the handshake.
        let accepted = TlsAcceptor::from(Arc::new(authority.server())).accept(stream).await;
        assert!(accepted.is_err());
        std::future::pending::<()>().await;
    };
    let said = tokio::select! {
        said = refusal(&connector) => said,
        () = serve => unreachable!("it serves on"),
    };
    assert!(said.contains("TLS with it failed; is control_plane.proxy the address"), "{said}");
}
