use hybrid_runner_secrets::BoundSecret;

fn anywhere(secret: &BoundSecret) -> &str {
    secret.expose()
}

fn main() {}
