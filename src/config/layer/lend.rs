//! Merges the arrays of tables of two layers by the tables' names.

use figment::value::Value;

use super::Layer;
use crate::config::problem::Problem;

impl Layer {
    /// Appends its tables of this array to those of `other`, which takes precedence; tables whose
    /// names exist there are left out. Places and problems are moved too.
    pub(in crate::config) fn lend(&mut self, array: &str, other: &mut Layer) {
        let (Some(Value::Array(_, lent)), Some(Value::Array(_, kept))) =
            (self.values.remove(array), other.values.get_mut(array))
        else {
            return;
        };
        let own = kept.len();
        for (index, table) in lent.into_iter().enumerate() {
            let name = table.find_ref("name");
            let taken = name.is_some()
                && kept.iter().take(own).any(|kept| {
                    kept.find_ref("name").and_then(Value::as_str) == name.and_then(Value::as_str)
                });
            let (from, to) = (
                format!("{array}[{index}]"),
                format!("{array}[{}]", kept.len()),
            );
            if !taken {
                kept.push(table);
                for (path, place) in &self.places {
                    if let Some(rest) = inside(path, &from) {
                        other.places.insert(format!("{to}{rest}"), place.clone());
                    }
                }
            }
            for problem in self
                .problems
                .extract_if(.., |p| inside(&p.key, &from).is_some())
            {
                if !taken {
                    let rest = inside(&problem.key, &from).unwrap_or_default();
                    let key = format!("{to}{rest}");
                    other.problems.push(Problem { key, ..problem });
                }
            }
        }
        let lent = format!("{array}[");
        self.places.retain(|path, _| !path.starts_with(&lent));
    }
}

/// The part of a path within a table: `.name` of `namespace[0].name` in `namespace[0]`.
fn inside<'p>(path: &'p str, table: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(table)?;
    (rest.is_empty() || rest.starts_with('.')).then_some(rest)
}
