use hybrid_runner_secrets::SecretValue;

fn serialize(_value: impl serde::Serialize) {}

fn main() {
    serialize(SecretValue::new(String::new()));
}
