//! A line with a hash in each file that mcpctl writes, so that it never overwrites what a person changed. Pure.

/// In front of the hash. Both kinds of files have it in a comment.
const MARK: &str = "mcpctl-hash: ";

/// How comments are written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comment {
    /// `# text`
    Hash,
    /// `<!-- text -->`
    Xml,
}

/// What a file at our path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    Absent,
    /// As mcpctl wrote it, with exactly this content.
    Current,
    /// As mcpctl wrote it, with other content.
    Outdated,
    /// Written by mcpctl, and changed since.
    Edited,
    /// Not written by mcpctl.
    Foreign,
}

impl FileState {
    /// `existing` is the content of the file, `wanted` what is to be written.
    pub fn of(existing: Option<&str>, wanted: &str) -> Self {
        match existing {
            None => Self::Absent,
            Some(text) if text == wanted => Self::Current,
            Some(text) => match split(text) {
                Some((hash, rest)) if hash == hash_of(&rest) => Self::Outdated,
                Some(_) => Self::Edited,
                None => Self::Foreign,
            },
        }
    }

    /// Whether a person's work would be lost.
    pub fn is_of_a_person(self) -> bool {
        matches!(self, Self::Edited | Self::Foreign)
    }
}

/// Adds the line with the hash. XML has its declaration in front of it.
pub fn stamp(text: &str, comment: Comment) -> String {
    let note = "written by `mcpctl service install`, which asks before it overwrites changes";
    let (head, comment) = match comment {
        Comment::Hash => (format!("# {note}\n"), format!("# {MARK}{}\n", "@")),
        Comment::Xml => {
            let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
                \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n";
            (format!("{declaration}<!-- {note} -->\n"), format!("<!-- {MARK}{} -->\n", "@"))
        }
    };
    let hash = hash_of(&format!("{head}{text}"));
    format!("{head}{}{text}", comment.replacen('@', &hash, 1))
}

/// The hash in a text, and the text without its line.
fn split(text: &str) -> Option<(String, String)> {
    let line = text.split_inclusive('\n').find(|line| line.contains(MARK))?;
    let (_, hash) = line.split_once(MARK)?;
    let hash = hash.split_whitespace().next()?;
    Some((hash.to_owned(), text.replacen(line, "", 1)))
}

/// FNV-1a: it finds an edit, and need not resist an attack.
fn hash_of(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_by_hand_is_recognized() {
        for comment in [Comment::Hash, Comment::Xml] {
            let old = stamp("[Unit]\nA=1\n", comment);
            let new = stamp("[Unit]\nA=2\n", comment);
            assert_eq!(FileState::of(None, &new), FileState::Absent);
            assert_eq!(FileState::of(Some(&new), &new), FileState::Current);
            assert_eq!(FileState::of(Some(&old), &new), FileState::Outdated);
            assert_eq!(FileState::of(Some(&old.replace("A=1", "A=3")), &new), FileState::Edited);
            assert_eq!(FileState::of(Some(&format!("{old}B=1\n")), &new), FileState::Edited);
            assert_eq!(FileState::of(Some("[Unit]\nA=2\n"), &new), FileState::Foreign);
            assert_eq!(FileState::of(Some(""), &new), FileState::Foreign);
        }
    }

    #[test]
    fn the_declaration_of_xml_stays_the_first_line() {
        assert!(stamp("<plist/>\n", Comment::Xml).starts_with("<?xml "));
    }
}
