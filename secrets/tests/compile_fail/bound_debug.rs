use hybrid_runner_secrets::BoundSecret;

fn print(secret: &BoundSecret) {
    println!("{secret:?}");
}

fn main() {}
