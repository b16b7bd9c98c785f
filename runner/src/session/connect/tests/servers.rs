//! Servers that are no control plane, or a wrong one.

use rustls::version::TLS12;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::*;

/// What the agent says of a server with this side of TLS.
async fn said_of(authority: &Authority, config: ServerConfig) -> String {
    let (dial, mut others) = pipes();
    let connector = connector(control_plane(authority, bearer(), None), dial);
    let serve = async {
        let stream = others.recv().await.unwrap();
        // It fails where the client does; what it accepts is held until the client is done.
        let accepted = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
        std::future::pending::<()>().await;
        drop(accepted);
    };
    tokio::select! {
        said = refusal(&connector) => said,
        () = serve => unreachable!("it serves on"),
    }
}

async fn said_of_certificate(names: &str, change: impl FnOnce(&mut CertificateParams)) -> String {
    let authority = Authority::new();
    let (certificate, key) = authority.sign(names, change);
    said_of(&authority, server_config(&certificate, &key)).await
}

#[tokio::test]
async fn each_wrong_server_is_refused_with_a_sentence_of_its_own() {
    let authority = Authority::new();
    let mut old = authority.server();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (certificate, key) = authority.sign("localhost", |_| {});
    let mut tls12 = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    tls12.alpn_protocols = vec![b"h2".to_vec()];
    let said = said_of(&authority, tls12).await;
    assert!(said.contains("it does not speak TLS 1.3"), "{said}");

    old.alpn_protocols = vec![b"http/1.1".to_vec()];
    let said = said_of(&authority, old).await;
    assert!(said.contains("it does not speak HTTP/2"), "{said}");
    let mut none = authority.server();
    none.alpn_protocols.clear();
    let said = said_of(&authority, none).await;
    assert!(said.contains("does a load balancer that ends TLS before it"), "{said}");

    let said = said_of(&authority, Authority::new().server()).await;
    assert!(said.contains("is not from the CA in control_plane.ca"), "{said}");
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let said = said_of(&authority, server_config(&own.cert.pem(), &own.signing_key.serialize_pem())).await;
    assert!(said.contains("or it signed its own"), "{said}");
    let said = said_of_certificate("elsewhere.example", |_| {}).await;
    assert!(said.contains("its certificate is for another host name"), "{said}");
}

#[tokio::test]
async fn a_certificate_out_of_its_time_names_the_clock_and_by_how_much() {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    let at = |since_epoch: Duration| rcgen::date_time_ymd(1970, 1, 1) + since_epoch;
    let days = |days: u64| Duration::from_secs(days * 86_400 + 3_600);
    let said = said_of_certificate("localhost", |params| params.not_after = at(now - days(400))).await;
    assert!(said.contains("expired 400 days ago by this machine's clock"), "{said}");
    let said = said_of_certificate("localhost", |params| params.not_before = at(now + days(400))).await;
    assert!(said.contains("valid only in 400 days by this machine's clock; set the clock"), "{said}");
}

#[tokio::test]
async fn what_speaks_no_tls_hangs_up_or_stalls_is_told_apart_in_time() {
    let authority = Authority::new();
    for (answer, hangs_up, sentence) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], false, "what it answers is no TLS"),
        (b"", true, "it closed the connection"),
        // The beginning of a handshake record that never ends.
        (&[22, 3, 3, 1, 0, 2, 0, 0, 252, 3, 3], true, "it closed the connection"),
        (&[22, 3, 3, 1, 0, 2, 0, 0, 252, 3, 3], false, "the handshake was not over within 10 s"),
        (b"", false, "the handshake was not over within 10 s"),
    ] {
        let (dial, mut others) = pipes();
        let connector = connector(control_plane(&authority, bearer(), None), dial);
        let serve = async {
            let mut stream = others.recv().await.unwrap();
            let mut hello = [0; 64];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(answer).await.unwrap();
            if hangs_up {
                stream.shutdown().await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let said = tokio::select! {
            said = refusal(&connector) => said,
            () = serve => unreachable!("it serves on"),
        };
        assert!(said.contains(sentence), "{said}");
    }
}
