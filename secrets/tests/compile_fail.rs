//! What must not compile: anything that lets the value of a secret out other than by `expose`.

#[test]
fn a_secret_value_has_no_debug_display_clone_eq_or_serde() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
