//! Each way to log in.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hybrid_runner_secrets::{ReadError, SecretError, Stores, VaultAuth, VaultStore};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::bao::{self, Stub, mount, token_file};
use super::{read, settings};

#[tokio::test]
async fn a_pod_logs_in_with_its_service_account() {
    let Some(bao) = bao::shared("a_pod_logs_in").await else { return };
    mount(bao, "pod", "2").await;
    bao.post("pod/data/open/a", json!({"data": {"k": "v"}})).await;
    let kubernetes = Stub::reviewing("crm", "agent", "7").await;
    bao.post("sys/auth/pod-login", json!({"type": "kubernetes"})).await;
    // It wants a certificate, also for a cluster that is asked in the clear.
    let ca = rcgen::generate_simple_self_signed(["kubernetes".to_owned()]).unwrap().cert.pem();
    let cluster =
        json!({"kubernetes_host": kubernetes.address, "disable_local_ca_jwt": true, "kubernetes_ca_cert": ca});
    bao.post("auth/pod-login/config", cluster).await;
    let role = json!({
        "audience": "vault",
        "bound_service_account_names": "agent",
        "bound_service_account_namespaces": "crm",
        "token_policies": "pod",
    });
    bao.post("auth/pod-login/role/agent", role).await;
    let account = json!({"namespace": "crm", "serviceaccount": {"name": "agent", "uid": "7"}});
    let claims = json!({"iss": "kubernetes/serviceaccount", "aud": ["vault"], "nbf": 1, "iat": 1, "exp": 4_000_000_000_u64, "kubernetes.io": account});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.{}", part(&json!({"alg": "RS256"})), part(&claims), URL_SAFE_NO_PAD.encode("signature"));
    let folder = TempDir::new().unwrap();
    let token_file = folder.path().join("token");
    fs::write(&token_file, token).unwrap();
    let login = |role: &str| {
        let (role, mount) = (role.to_owned(), "pod-login".to_owned());
        VaultStore::new(settings(bao, VaultAuth::Kubernetes { role, token_file: token_file.clone(), mount }, "pod"))
    };
    assert_eq!(read(&login("agent"), "secret:/open/a").await.unwrap(), "v");
    assert_eq!(kubernetes.requests(), 1);
    let Err(ReadError::Denied(needs)) = read(&login("other"), "secret:/open/a").await else { panic!("is denied") };
    assert_eq!(needs, "a login at auth/pod-login/login, which was refused");
}

/// A token that this key signed, good for so long from now.
fn jwt(key: &KeyPair, audience: &str, life: i64) -> String {
    #[expect(clippy::disallowed_methods, reason = "the server compares it with the date")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"sub": "agent", "aud": audience, "iat": now - 7200, "exp": now + life});
    let signed = format!("{}.{}", part(&json!({"alg": "ES256", "typ": "JWT"})), part(&claims));
    let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der()).unwrap();
    let signature = signer.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn a_signed_token_logs_in_and_is_read_again_for_each_login() {
    let Some(bao) = bao::shared("a_signed_token").await else { return };
    mount(bao, "jwt", "2").await;
    bao.post("jwt/data/open/a", json!({"data": {"k": "v"}})).await;
    let (key, stranger) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    bao.post("sys/auth/team/jwt", json!({"type": "jwt"})).await;
    bao.post("auth/team/jwt/config", json!({"jwt_validation_pubkeys": [key.public_key_pem()]})).await;
    let role = json!({"role_type": "jwt", "bound_audiences": ["vault"], "user_claim": "sub", "token_policies": "jwt"});
    bao.post("auth/team/jwt/role/agent", role).await;
    let folder = TempDir::new().unwrap();
    let token_file = folder.path().join("token");
    let login = |role: &str| {
        let (role, mount) = (role.to_owned(), VaultAuth::mount("team/jwt").unwrap());
        VaultStore::new(settings(bao, VaultAuth::Jwt { role, token_file: token_file.clone(), mount }, "jwt"))
    };
    let store = login("agent");
    for refused in
        [jwt(&key, "vault", -3600), jwt(&key, "elsewhere", 3600), jwt(&stranger, "vault", 3600), "x".to_owned()]
    {
        fs::write(&token_file, refused).unwrap();
        let Err(ReadError::Denied(needs)) = read(&store, "secret:/open/a").await else { panic!("is denied") };
        assert_eq!(needs, "a login at auth/team/jwt/login, which was refused");
    }
    fs::write(&token_file, jwt(&key, "vault", 3600)).unwrap();
    assert_eq!(read(&store, "secret:/open/a").await.unwrap(), "v");
    assert!(matches!(read(&login("other"), "secret:/open/a").await, Err(ReadError::Denied(_))));
    // A login that is needed later takes what the file holds then.
    bao.post("sys/leases/revoke-prefix/auth/team/jwt/login", json!({})).await;
    fs::remove_file(&token_file).unwrap();
    let Err(ReadError::Denied(needs)) = read(&store, "secret:/open/a").await else { panic!("is denied") };
    assert!(needs.starts_with("a credential in the file ") && needs.contains("token"), "{needs}");
    fs::write(&token_file, jwt(&key, "vault", 3600)).unwrap();
    assert_eq!(read(&store, "secret:/open/a").await.unwrap(), "v");
}

/// An authority for client certificates.
struct Clients {
    authority: Issuer<'static, KeyPair>,
    pem: String,
}

impl Clients {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { authority: Issuer::new(params, key), pem }
    }

    /// Writes `cert.pem` and `key.pem`.
    fn write(&self, folder: &Path, name: &str) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        fs::write(folder.join("cert.pem"), params.signed_by(&key, &self.authority).unwrap().pem()).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    }
}

#[tokio::test]
async fn a_client_certificate_logs_in_and_is_read_again() {
    let folder = TempDir::new().unwrap();
    let option = format!("-dev-tls-cert-dir={}", folder.path().display());
    let Some(bao) = bao::start("a_client_certificate", &["-dev-tls", &option]).await else { return };
    mount(&bao, "tls", "2").await;
    bao.post("tls/data/open/a", json!({"data": {"k": "v"}})).await;
    let (clients, strangers) = (Clients::new(), Clients::new());
    bao.post("sys/auth/cert", json!({"type": "cert"})).await;
    let role = |name: &str, policy: &str| json!({"certificate": clients.pem, "allowed_common_names": [name], "token_policies": policy});
    bao.post("auth/cert/certs/agent", role("one", "tls")).await;
    bao.post("auth/cert/certs/powerless", role("one", "default")).await;
    let at = |auth: VaultAuth| {
        let ca = fs::read(folder.path().join("vault-ca.pem")).unwrap();
        let settings = settings(&bao, auth, "tls").with_ca(ca);
        VaultStore::new(settings.with_client_certificate(folder.path().join("cert.pem"), folder.path().join("key.pem")))
    };
    let login = |role: &str| at(VaultAuth::Certificate { role: Some(role.to_owned()), mount: "cert".to_owned() });
    let store = login("agent");
    let Err(ReadError::Denied(needs)) = read(&store, "secret:/open/a").await else { panic!("is denied") };
    assert!(
        needs.starts_with("a client certificate, whose file ") && needs.contains("cert.pem is not read"),
        "{needs}"
    );
    strangers.write(folder.path(), "one");
    let Err(ReadError::Denied(needs)) = read(&store, "secret:/open/a").await else { panic!("is denied") };
    assert_eq!(needs, "a login at auth/cert/login, which was refused");
    clients.write(folder.path(), "one");
    assert_eq!(read(&store, "secret:/open/a").await.unwrap(), "v");

    // The role is the one that is named, also where another one fits the certificate.
    let Err(ReadError::Denied(needs)) = read(&login("powerless"), "secret:/open/a").await else { panic!("is denied") };
    assert!(needs.starts_with("any capability below tls/"), "{needs}");

    // A certificate that was replaced is shown without a restart.
    bao.post("auth/cert/certs/agent", role("two", "tls")).await;
    bao.delete("auth/cert/certs/powerless").await;
    bao.post("sys/leases/revoke-prefix/auth/cert/login", json!({})).await;
    assert!(matches!(read(&store, "secret:/open/a").await, Err(ReadError::Denied(_))));
    clients.write(folder.path(), "two");
    assert_eq!(read(&store, "secret:/open/a").await.unwrap(), "v");
    let any = at(VaultAuth::Certificate { role: None, mount: VaultAuth::CERTIFICATE.to_owned() });
    assert_eq!(read(&any, "secret:/open/a").await.unwrap(), "v");

    fs::write(folder.path().join("key.pem"), "hunter2").unwrap();
    let Err(ReadError::Denied(needs)) = read(&store, "secret:/open/a").await else { panic!("is denied") };
    assert!(needs.ends_with("both in PEM") && !needs.contains("hunter2"), "{needs}");
}

#[tokio::test]
async fn a_server_is_trusted_by_its_ca_only() {
    let folder = TempDir::new().unwrap();
    let option = format!("-dev-tls-cert-dir={}", folder.path().display());
    let Some(bao) = bao::start("a_server_is_trusted", &["-dev-tls", &option]).await else { return };
    bao.post("secret/data/a", json!({"data": {"k": "v"}})).await;
    let (_folder, auth) = token_file("root");
    let settings = settings(&bao, auth, "secret");
    let trusted = settings.clone().with_ca(fs::read(folder.path().join("vault-ca.pem")).unwrap());
    assert_eq!(read(&VaultStore::new(trusted), "secret:/a").await.unwrap(), "v");
    assert!(matches!(read(&VaultStore::new(settings.clone()), "secret:/a").await, Err(ReadError::Unreachable(_))));
    let store = Stores::default().with("vault", VaultStore::new(settings.with_ca(b"none".to_vec())));
    let error = store.read(&"secret:/a".parse().unwrap()).await.err().unwrap();
    assert!(matches!(error, SecretError::Unreachable { .. }), "{error:?}");
}
