use hybrid_runner_secrets::SecretValue;

fn main() {
    let value = SecretValue::new(String::new());
    let _same = value == SecretValue::new(String::new());
}
