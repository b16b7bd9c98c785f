//! "Did you mean": the known word that an unknown one is a slip of.

/// The known word nearest to `unknown`, when one is near enough that a slip of the pen explains it: at most a third of
/// its characters differ, upper and lower case aside.
///
/// ```
/// use hybrid_runner_openmetadata::suggest::nearest;
///
/// assert_eq!(nearest("markDeletedTable", &["threads", "markDeletedTables"]), Some("markDeletedTables"));
/// assert_eq!(nearest("colour", &["threads", "markDeletedTables"]), None);
/// ```
#[must_use]
pub fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    // Longer than any key that exists: not worth a quadratic comparison.
    if unknown.len() > LONGEST {
        return None;
    }
    let unknown = unknown.to_lowercase();
    known
        .iter()
        .map(|word| (strsim::osa_distance(&unknown, &word.to_lowercase()), *word))
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Bytes of the longest word that is compared.
const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_known_word_is_found() {
        let known = ["sobjectNames", "databaseName", "salesforceDomain", "password", "username"];
        for (unknown, expected) in [
            ("sobjectName", Some("sobjectNames")),
            ("SobjectNames", Some("sobjectNames")),
            ("user_name", Some("username")),
            ("passwrod", Some("password")),
            ("salesforcedomain", Some("salesforceDomain")),
            ("hostPort", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(nearest(unknown, &known), expected, "{unknown}");
        }
    }

    #[test]
    fn a_megabyte_is_not_compared() {
        assert_eq!(nearest(&"a".repeat(1 << 20), &["a"]), None);
    }
}
