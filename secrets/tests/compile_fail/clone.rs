use hybrid_runner_secrets::SecretValue;

fn main() {
    let value = SecretValue::new(String::new());
    let _copy = value.clone();
}
