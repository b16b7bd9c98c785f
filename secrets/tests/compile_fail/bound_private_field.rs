use hybrid_runner_secrets::BoundSecret;

fn inner(secret: &BoundSecret) -> &str {
    secret.value.expose()
}

fn main() {}
