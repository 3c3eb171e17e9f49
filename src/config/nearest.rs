//! Which known name someone probably meant.

/// The known key that is nearest to this one, by the letters to change; a key of the right name
/// in the wrong table is near too.
pub(super) fn nearest<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known.into_iter().min_by_key(|candidate| {
        let whole = distance(key, candidate);
        let ((table, name), (other_table, other_name)) = (split(key), split(candidate));
        let moved = usize::from(table != other_table) * 2;
        whole.min(distance(name, other_name) + moved)
    })
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// Levenshtein's distance: how many characters to insert, remove or replace.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (line, left) in from.chars().enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(to.chars()) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *cell;
            *cell = replaced.min(before + 1).min(diagonal + 1);
            before = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_changes() {
        for (from, to, changes) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(from, to), changes, "{from} {to}");
        }
    }

    #[test]
    fn a_slip_of_the_pen_finds_its_key() {
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
