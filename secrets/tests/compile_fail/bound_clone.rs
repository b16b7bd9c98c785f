use hybrid_runner_secrets::BoundSecret;

fn copy(secret: &BoundSecret) -> BoundSecret {
    secret.clone()
}

fn main() {}
