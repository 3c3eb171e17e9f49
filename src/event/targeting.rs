//! Member names by which clients address an event to receivers.

/// The names in lower case, without `_` and `-`.
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

/// True if this member addresses receivers, in any spelling: `user_id`, `userId` and `UserID` are
/// equal. Where such a member is not supported it must be refused: otherwise an event for one user
/// would reach all.
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
    fn targeting_names_match_any_spelling() {
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
