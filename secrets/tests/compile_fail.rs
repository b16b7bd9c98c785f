//! What must not compile: anything that lets the value of a secret out other than by `expose`.

#[test]
fn a_secret_value_has_no_debug_display_clone_eq_or_serde() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}

/// Compiles only while `SecretValue` cannot be deserialised: otherwise both implementations fit the call. As a case of
/// trybuild it would depend on which features of other crates are on, because the compiler lists what can be.
mod a_secret_value_cannot_be_deserialised {
    trait Ambiguous<Because> {
        fn fits() {}
    }

    struct Deserialisable;

    impl<T> Ambiguous<()> for T {}
    impl<T: serde::de::DeserializeOwned> Ambiguous<Deserialisable> for T {}

    #[test]
    fn or_this_would_not_compile() {
        <hybrid_runner_secrets::SecretValue as Ambiguous<_>>::fits();
    }
}
