//! Words for people: numbers with their nouns.

/// "1 worker", "3 workers", "2 processes".
pub fn count(number: usize, singular: &str) -> String {
    let ending = if singular.ends_with('s') { "es" } else { "s" };
    if number == 1 { format!("1 {singular}") } else { format!("{number} {singular}{ending}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_the_right_plural() {
        assert_eq!([0, 1, 2].map(|number| count(number, "worker")), ["0 workers", "1 worker", "2 workers"]);
        assert_eq!(count(2, "process"), "2 processes");
    }
}
