//! Server-sent events: where one ends and the next begins, and what is in them. Pure.
//!
//! The format is that of the HTML standard, section 9.2: lines end with LF, CR LF or CR, an empty
//! line ends an event.

use std::borrow::Cow;

/// An event longer than this is passed on unsplit: no worker may make the daemon's memory grow.
const LONGEST: usize = 4 * 1024 * 1024;

/// Cuts a stream of bytes into events.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    searched: usize,
}

impl Splitter {
    /// Takes bytes, and calls `each` with every complete event and its empty line.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        let mut held = std::mem::take(&mut self.buffer);
        if !held.is_empty() {
            held.extend_from_slice(bytes);
        }
        let all = if held.is_empty() { bytes } else { &held };
        let mut begin = 0;
        let mut searched = self.searched;
        while let Some(length) = end_of_event(&all[begin..], searched.saturating_sub(begin)) {
            each(&all[begin..begin + length]);
            begin += length;
            searched = begin;
        }
        if all.len() - begin > LONGEST {
            each(&all[begin..]);
            begin = all.len();
        }
        // The last three bytes may be the first of an empty line.
        self.searched = (all.len() - begin).saturating_sub(3);
        // Only an event that grows keeps its memory.
        self.buffer = if begin == 0 && !held.is_empty() { held } else { all[begin..].to_vec() };
    }

    /// Of the event that has not ended yet, in bytes.
    pub fn length(&self) -> usize {
        self.buffer.len()
    }

    /// What has arrived of the next event, when no more of it comes or there is no room to keep it.
    pub fn rest(&mut self) -> Vec<u8> {
        self.searched = 0;
        std::mem::take(&mut self.buffer)
    }
}

fn end_of_event(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(to_end) = memchr::memchr2(b'\n', b'\r', bytes.get(at..)?) {
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
pub struct Event<'a> {
    /// `event:`
    pub name: Option<Cow<'a, str>>,
    /// `id:`
    pub id: Option<Cow<'a, str>>,
    /// `data:`, its lines joined.
    pub data: Cow<'a, str>,
    /// `retry:`
    pub retry: Option<Cow<'a, str>>,
}

impl<'a> Event<'a> {
    /// Takes an event apart; `None` for one that is only a comment (a keep-alive).
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        match String::from_utf8_lossy(bytes) {
            Cow::Borrowed(text) => Self::fields(text),
            Cow::Owned(text) => Event::fields(&text).map(Event::into_owned),
        }
    }

    fn fields(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut event = Self::default();
        let mut known = false;
        let mut has_data = false;
        for line in text.split(['\n', '\r']).filter(|line| !line.is_empty() && !line.starts_with(':')) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            known = true;
            match field {
                "event" => event.name = Some(value.into()),
                "id" => event.id = Some(value.into()),
                "retry" => event.retry = Some(value.into()),
                "data" if std::mem::replace(&mut has_data, true) => {
                    event.data = format!("{}\n{value}", event.data).into();
                }
                "data" => event.data = value.into(),
                _ => {}
            }
        }
        known.then_some(event)
    }

    fn into_owned(self) -> Event<'static> {
        let own = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        Event {
            name: self.name.map(own),
            id: self.id.map(own),
            data: own(self.data),
            retry: self.retry.map(own),
        }
    }

    /// Puts it together again.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut line = |field: &str, value: &str| {
            for part in [field, ": ", value, "\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        };
        for (field, value) in [("event", &self.name), ("id", &self.id), ("retry", &self.retry)] {
            if let Some(value) = value {
                line(field, value);
            }
        }
        if !self.data.is_empty() || self.id.is_some() {
            self.data.split('\n').for_each(|part| line("data", part));
        }
        out.push(b'\n');
    }

    /// Appends an event that carries a message.
    pub fn push_message(out: &mut Vec<u8>, message: &serde_json::Value) {
        push_event(out, message.to_string().as_bytes());
    }
}

/// Appends an event that carries a message, which is one line.
pub fn push_event(out: &mut Vec<u8>, message: &[u8]) {
    for part in [b"event: message\ndata: ", message, b"\n\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(text: &str) -> Event<'_> {
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
            let mut got: Vec<Vec<u8>> = vec![];
            let mut rest = whole.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                splitter.push(now, |event| got.push(event.to_vec()));
                rest = later;
            }
            got.push(splitter.rest());
            got.retain(|event| !event.is_empty());
            prop_assert_eq!(got.concat(), whole.into_bytes());
            let read: Vec<_> = got.iter().filter_map(|event| Event::read(event)).collect();
            prop_assert_eq!(read.len(), events.len());
            for (event, (name, data)) in read.iter().zip(&events) {
                prop_assert_eq!(event.name.as_deref(), Some(name.as_str()));
                prop_assert_eq!(event.data.as_ref(), data.as_str());
            }
        }

        #[test]
        fn writing_and_reading_agree(id in "[a-z0-9.]{0,9}", data in "[ -~]{1,40}(\n[ -~]{1,40}){0,3}") {
            let event = Event { id: Some(id.into()), data: data.into(), ..Event::default() };
            let mut written = vec![];
            event.write(&mut written);
            prop_assert_eq!(Event::read(&written), Some(event));
        }

        #[test]
        fn any_bytes_pass(bytes: Vec<u8>) {
            let mut splitter = Splitter::default();
            let mut out = vec![];
            splitter.push(&bytes, |event| out.extend_from_slice(event));
            out.extend(splitter.rest());
            prop_assert_eq!(&out, &bytes);
            let _ = Event::read(&bytes);
        }
    }
}
