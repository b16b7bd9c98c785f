//! Files that change under a connection.

use std::path::Path;

use tokio_rustls::TlsAcceptor;

use super::*;

fn write(folder: &Path, (certificate, key): &(String, String)) {
    std::fs::write(folder.join("agent.pem"), certificate).unwrap();
    std::fs::write(folder.join("agent.key"), key).unwrap();
}

/// A server that accepts whatever comes, for as long as the test runs.
async fn serve(authority: &Authority, mut others: mpsc::UnboundedReceiver<DuplexStream>) {
    let acceptor = TlsAcceptor::from(Arc::new(authority.server()));
    let mut accepted = Vec::new();
    while let Some(stream) = others.recv().await {
        accepted.push(acceptor.accept(stream).await);
    }
}

#[tokio::test]
async fn a_pair_that_is_half_written_keeps_the_last_one_in_use_until_both_files_fit() {
    let authority = Authority::new();
    let [old, new] = [(), ()].map(|()| authority.sign("agent", |_| {}));
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &old);
    let file = |name: &str| Pem::File(folder.path().join(name));
    let identity = Identity::Certificate { certificate: file("agent.pem"), key: file("agent.key") };
    let (dial, others) = pipes();
    let connector = connector(control_plane(&authority, identity, None), Arc::clone(&dial));
    let test = async {
        let link = connector.connect().await.unwrap();
        std::fs::write(folder.path().join("agent.pem"), &new.0).unwrap();
        let early = tokio::time::timeout(Duration::from_millis(1_300), connector.renewed(&link)).await;
        assert!(early.is_err(), "another's key");
        assert_eq!(dial.asked.lock().unwrap().len(), 1, "nobody was asked with a pair that does not fit");
        assert!(connector.told.lock().unwrap().is_some());
        // A connection that is needed meanwhile is made with what was in use.
        let again = connector.connect().await.unwrap();
        assert_eq!(again.files, link.files);

        write(folder.path(), &new);
        let renewed = connector.renewed(&link).await;
        assert_ne!(renewed.files, link.files);
        assert!(connector.told.lock().unwrap().is_none());
    };
    tokio::select! {
        () = test => {}
        () = serve(&authority, others) => unreachable!("it serves on"),
    }
}

#[tokio::test]
async fn a_connection_on_which_no_stream_opens_is_replaced_though_no_file_changed() {
    let authority = Authority::new();
    let (dial, others) = pipes();
    let connector = connector(control_plane(&authority, bearer(), None), dial);
    let test = async {
        let link = connector.connect().await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(1_300), connector.renewed(&link)).await;
        assert!(early.is_err(), "nothing changed");
        link.clone().suspect();
        connector.renewed(&link).await;
    };
    tokio::select! {
        () = test => {}
        () = serve(&authority, others) => unreachable!("it serves on"),
    }
}
