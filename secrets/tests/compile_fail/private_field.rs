use hybrid_runner_secrets::SecretValue;

fn main() {
    let _inner = SecretValue::new(String::new()).0;
}
