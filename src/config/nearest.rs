//! Finds the known name that is most similar to an unknown one.

use strsim::levenshtein;

/// The known key with the smallest edit distance. A name in the wrong table costs two edits, however
/// long the table's name is.
pub(super) fn nearest<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known.into_iter().min_by_key(|candidate| {
        let whole = levenshtein(key, candidate);
        let ((table, name), (other_table, other_name)) = (split(key), split(candidate));
        let moved = usize::from(table != other_table) * 2;
        whole.min(levenshtein(name, other_name) + moved)
    })
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_key_finds_the_nearest_one() {
        let known = [
            "limits.connections",
            "limits.channels",
            "auth.hs256_secret",
            "public.listen",
        ];
        for (key, meant) in [
            ("limits.conections", "limits.connections"),
            ("limits.chanels", "limits.channels"),
            ("auth.hs256_secrett", "auth.hs256_secret"),
            ("server.hs256_secret", "auth.hs256_secret"),
            ("hs256_secret", "auth.hs256_secret"),
        ] {
            assert_eq!(nearest(key, known), Some(meant), "{key}");
        }
    }
}
