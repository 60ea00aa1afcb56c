//! Server-sent events: where one ends and the next begins, and what is in them. Pure.
//!
//! The format is that of the HTML standard, section 9.2: lines end with LF, CR LF or CR, an empty
//! line ends an event.

use hyper::body::Bytes;

/// An event longer than this is passed on unsplit: no worker may make the daemon's memory grow.
const LONGEST: usize = 16 * 1024 * 1024;

/// Cuts a stream of bytes into events.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    searched: usize,
}

impl Splitter {
    /// Takes bytes, returns every complete event with its empty line.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Bytes> {
        self.buffer.extend_from_slice(bytes);
        let mut events = vec![];
        let mut begin = 0;
        while let Some(end) = end_of_event(&self.buffer[begin..], self.searched.saturating_sub(begin)) {
            events.push(Bytes::copy_from_slice(&self.buffer[begin..begin + end]));
            begin += end;
            self.searched = begin;
        }
        self.buffer.drain(..begin);
        // The last three bytes may be the first of an empty line.
        self.searched = self.buffer.len().saturating_sub(3);
        if self.buffer.len() > LONGEST {
            events.push(self.rest());
        }
        events
    }

    /// The rest when the stream ends.
    pub fn rest(&mut self) -> Bytes {
        self.searched = 0;
        std::mem::take(&mut self.buffer).into()
    }
}

fn end_of_event(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(to_end) = bytes.get(at..)?.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        at += to_end;
        match line_end_at(bytes, at)? {
            0 => at += 1,
            // A line ended here; the event ends if another one does at once.
            length => match line_end_at(bytes, at + length)? {
                0 => at += length,
                second => return Some(at + length + second),
            },
        }
    }
    None
}

/// The length of the line end at this place, 0 if there is none, `None` if more bytes must
/// tell.
fn line_end_at(bytes: &[u8], at: usize) -> Option<usize> {
    match (bytes.get(at)?, bytes.get(at + 1)) {
        (b'\n', _) => Some(1),
        (b'\r', Some(b'\n')) => Some(2),
        // A line feed may follow, which belongs to this line end.
        (b'\r', None) => None,
        (b'\r', Some(_)) => Some(1),
        _ => Some(0),
    }
}

/// One event, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `event:`
    pub name: Option<String>,
    /// `id:`
    pub id: Option<String>,
    /// `data:`, its lines joined.
    pub data: String,
    /// `retry:`
    pub retry: Option<String>,
}

impl Event {
    /// Takes an event apart; `None` for one that is only a comment (a keep-alive).
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut event = Self::default();
        let mut data = Vec::new();
        let mut known = false;
        for line in text.split(['\n', '\r']).filter(|line| !line.is_empty() && !line.starts_with(':')) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            known = true;
            match field {
                "event" => event.name = Some(value.to_owned()),
                "id" => event.id = Some(value.to_owned()),
                "retry" => event.retry = Some(value.to_owned()),
                "data" => data.push(value),
                _ => {}
            }
        }
        event.data = data.join("\n");
        known.then_some(event)
    }

    /// Puts it together again.
    pub fn write(&self) -> Bytes {
        let mut text = String::with_capacity(self.data.len() + 64);
        for (field, value) in [("event", &self.name), ("id", &self.id), ("retry", &self.retry)] {
            if let Some(value) = value {
                text.extend([field, ": ", value, "\n"]);
            }
        }
        for line in self.data.split('\n').filter(|_| !self.data.is_empty() || self.id.is_some()) {
            text.extend(["data: ", line, "\n"]);
        }
        text.push('\n');
        text.into()
    }

    /// An event that carries a message.
    pub fn message(data: &serde_json::Value) -> Bytes {
        Self { name: Some("message".to_owned()), data: data.to_string(), ..Self::default() }.write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(text: &str) -> Event {
        Event::read(text.as_bytes()).expect("an event")
    }

    #[test]
    fn fields_are_read_as_in_the_standard() {
        let read = event(": hello\r\nevent: message\r\nid: 7\r\ndata: a\r\ndata:b\r\nretry: 5\r\n\r\n");
        let expected = Event {
            name: Some("message".into()),
            id: Some("7".into()),
            data: "a\nb".into(),
            retry: Some("5".into()),
        };
        assert_eq!(read, expected);
        assert_eq!(Event::read(b": keep-alive\n\n"), None);
    }

    fn line_end() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("\n"), Just("\r\n"), Just("\r")]
    }

    proptest! {
        /// However the network cuts the bytes, the same events come out, complete and in order.
        #[test]
        fn cutting_changes_nothing(
            events in proptest::collection::vec(("[a-z]{1,8}", "[a-z {}]{0,20}"), 1..8),
            end in line_end(),
            cuts in proptest::collection::vec(1usize..7, 1..40),
        ) {
            let texts: Vec<_> =
                events.iter().map(|(name, data)| format!("event: {name}{end}data: {data}{end}{end}")).collect();
            let whole = texts.concat();
            let mut splitter = Splitter::default();
            let mut got = vec![];
            let mut rest = whole.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                got.extend(splitter.push(now));
                rest = later;
            }
            got.push(splitter.rest());
            got.retain(|event| !event.is_empty());
            prop_assert_eq!(got.concat(), whole.into_bytes());
            let read: Vec<_> = got.iter().filter_map(|event| Event::read(event)).collect();
            prop_assert_eq!(read.len(), events.len());
            for (event, (name, data)) in read.iter().zip(&events) {
                prop_assert_eq!(event.name.as_deref(), Some(name.as_str()));
                prop_assert_eq!(event.data.as_str(), data.as_str());
            }
        }

        #[test]
        fn writing_and_reading_agree(id in "[a-z0-9.]{0,9}", data in "[ -~]{1,40}(\n[ -~]{1,40}){0,3}") {
            let event = Event { id: Some(id), data, ..Event::default() };
            prop_assert_eq!(Event::read(&event.write()), Some(event));
        }

        #[test]
        fn any_bytes_pass(bytes: Vec<u8>) {
            let mut splitter = Splitter::default();
            let mut out: Vec<u8> = splitter.push(&bytes).concat();
            out.extend(splitter.rest());
            prop_assert_eq!(&out, &bytes);
            let _ = Event::read(&bytes);
        }
    }
}
