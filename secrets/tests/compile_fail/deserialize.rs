use hybrid_runner_secrets::SecretValue;

fn deserialize<T: serde::de::DeserializeOwned>() {}

fn main() {
    deserialize::<SecretValue>();
}
