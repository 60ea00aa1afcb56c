//! "Did you mean": the known key that resembles an unknown one.

/// The element of `known` with the smallest edit distance, if at most a third of the characters differ.
fn nearest<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let key = key.to_lowercase().replace('-', "_");
    let allowed = (key.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&key, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The help for an unknown key: the nearest known one, else all of them.
pub(super) fn help<'a>(key: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(key, known.clone()) {
        Some(found) => format!("did you mean \"{found}\"?"),
        None => format!("known keys: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_recognised_and_other_keys_are_not() {
        let known = ["port", "repo", "command", "restart_unhealthy"];
        assert_eq!(nearest("prot", known), Some("port"));
        assert_eq!(nearest("restart-unhealthy", known), Some("restart_unhealthy"));
        assert_eq!(nearest("Comand", known), Some("command"));
        assert_eq!(nearest("language", known), None);
        assert_eq!(help("language", ["a", "b"]), "known keys: a, b");
    }
}
