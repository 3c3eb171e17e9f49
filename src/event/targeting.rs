//! Names by which clients say for whom an event is.

/// Those names, in lower case without `_` and `-`.
const NAMES: [&str; 30] = [
    "allowedroles",
    "allowedusers",
    "audience",
    "clientid",
    "clientids",
    "connection",
    "connectionid",
    "connectionids",
    "connections",
    "exceptconnections",
    "exceptusers",
    "excludeconnections",
    "excludeusers",
    "recipient",
    "recipients",
    "requiredrole",
    "requiredroles",
    "role",
    "roles",
    "targetconnection",
    "targetconnections",
    "targetrole",
    "targetroles",
    "targetuser",
    "targetusers",
    "user",
    "userid",
    "userids",
    "username",
    "users",
];

/// True if a member of this name says for whom an event is, whatever its spelling: `user_id`,
/// `userId` and `UserID` are the same. Where such a member is not honoured it must be refused: what
/// was meant for somebody must not go to everybody.
#[must_use]
pub fn names_receivers(name: &str) -> bool {
    if name.len() > 64 {
        return false;
    }
    let letters = name.chars().filter(|c| !matches!(c, '_' | '-'));
    let plain: String = letters.map(|c| c.to_ascii_lowercase()).collect();
    NAMES.contains(&plain.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_known_by_any_spelling() {
        for name in [
            "user",
            "user_id",
            "userId",
            "UserID",
            "target-users",
            "requiredRoles",
        ] {
            assert!(names_receivers(name), "{name}");
        }
        for name in [
            "",
            "data",
            "user_name_of_the_job",
            "job_id",
            "reuser",
            "target",
        ] {
            assert!(!names_receivers(name), "{name}");
        }
    }
}
