//! Pages by SNPP, the Simple Network Paging Protocol (RFC 1861), levels 1 to 3.
//!
//! The protocol is plain text without TLS: a page says no more than band, place and code.
//! Level 1 pages; level 2 adds a subject and overrides a silenced pager for critical studies, where
//! the server knows how; level 3 offers two answers and asks for the one that was given.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::message::Notice;
use super::settings::DestinationSettings;
use crate::outbox::Attempt;
use crate::outbox::machine::Outcome;
use crate::triage::Band;

/// Longest line of a server, in bytes.
const LINE_BYTES_MAX: u64 = 512;
/// Lines of one reply.
const REPLY_LINES_MAX: usize = 20;
/// Characters of a reply that are kept.
const SAID_CHARS_MAX: usize = 200;
/// Codes and texts of the answers that a two-way pager offers (RFC 1861, `MCREsponse`).
const ANSWERS: [(&str, &str); 2] = [("1", "I look at it"), ("2", "I cannot")];

/// A pager behind a paging server.
pub struct SnppChannel {
    server: String,
    pager: String,
    level: u8,
    login: Option<(String, String)>,
}

/// What came back from a two-way pager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PagerReply {
    /// Nothing yet.
    None,
    /// Whoever carries it looks at the study; in their words where they had some.
    Looks(String),
    /// Whoever carries it cannot.
    Cannot(String),
    /// There will be none: expired, or not known any more.
    Never(String),
}

/// A line of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reply {
    code: u16,
    text: String,
}

impl Reply {
    /// Reads `250 text`.
    fn parse(line: &str) -> Option<Self> {
        let code = line.get(..3)?;
        let all_digits = code.bytes().all(|b| b.is_ascii_digit());
        Some(Self {
            code: code.parse().ok().filter(|_| all_digits)?,
            text: line.get(4..).unwrap_or_default().trim().to_owned(),
        })
    }

    /// 2yz went well, 8yz and 9yz of a two-way transaction did (RFC 1861).
    fn is_good(&self) -> bool {
        matches!(self.code, 200..=299 | 800..=999)
    }

    fn said(&self) -> String {
        let plain = self.text.chars().filter(|c| !c.is_control());
        let text: String = plain.take(SAID_CHARS_MAX).collect();
        format!("{} {text}", self.code)
    }
}

/// What ended an exchange before its time.
#[derive(Debug)]
struct Failed {
    /// Why, with the server's code and none of its words.
    outcome: Outcome,
    /// What the server said, where it was the server.
    said: String,
}

impl Failed {
    /// The connection, or what cannot be understood.
    fn broken(why: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Later(why.into()),
            said: String::new(),
        }
    }

    /// The server said so.
    fn answered(reply: &Reply, for_good: bool) -> Self {
        let why = format!("SNPP {}", reply.code);
        let outcome = if for_good {
            Outcome::Never(why)
        } else {
            Outcome::Later(why)
        };
        Self {
            outcome,
            said: reply.said(),
        }
    }
}

struct Exchange {
    stream: BufReader<TcpStream>,
}

impl Exchange {
    async fn open(server: &str) -> Result<Self, Failed> {
        let stream = TcpStream::connect(server)
            .await
            .map_err(|e| Failed::broken(format!("could not reach {server}: {e}")))?;
        let mut exchange = Self {
            stream: BufReader::new(stream),
        };
        let greeting = exchange.reply().await?;
        if greeting.code == 220 {
            Ok(exchange)
        } else {
            Err(Failed::answered(&greeting, false))
        }
    }

    async fn reply(&mut self) -> Result<Reply, Failed> {
        let broken = |e: std::io::Error| Failed::broken(format!("the connection broke: {e}"));
        for _ in 0..REPLY_LINES_MAX {
            let mut line = Vec::new();
            let mut bounded = (&mut self.stream).take(LINE_BYTES_MAX);
            bounded.read_until(b'\n', &mut line).await.map_err(broken)?;
            let text = String::from_utf8_lossy(&line);
            if !text.ends_with('\n') {
                return Err(Failed::broken("the server ended in the middle of a line"));
            }
            let Some(reply) = Reply::parse(text.trim_end()) else {
                return Err(Failed::broken("the server does not speak SNPP"));
            };
            // 214 informs and is followed by another line (RFC 1861).
            if reply.code != 214 && !text[3..].starts_with('-') {
                return Ok(reply);
            }
        }
        Err(Failed::broken("the server's reply does not end"))
    }

    /// Says a command; our commands hold nothing that came from outside but settings that were checked.
    async fn say(&mut self, command: &str) -> Result<Reply, Failed> {
        let line = format!("{command}\r\n");
        let broken = |e: std::io::Error| Failed::broken(format!("the connection broke: {e}"));
        let stream = self.stream.get_mut();
        stream.write_all(line.as_bytes()).await.map_err(broken)?;
        let reply = self.reply().await?;
        // 421 ends the connection, whatever was said (RFC 1861).
        if reply.code == 421 {
            return Err(Failed::answered(&reply, false));
        }
        Ok(reply)
    }

    /// Says a command that must succeed. 554 and 7yz speak of technical trouble, which passes.
    async fn must(&mut self, command: &str) -> Result<Reply, Failed> {
        let reply = self.say(command).await?;
        match reply.code {
            _ if reply.is_good() => Ok(reply),
            552 | 554 | 700..=799 => Err(Failed::answered(&reply, false)),
            _ => Err(Failed::answered(&reply, true)),
        }
    }

    async fn log_in(&mut self, login: Option<&(String, String)>) -> Result<(), Failed> {
        let Some((user, password)) = login else {
            return Ok(());
        };
        let command = format!("LOGI {user} {password}");
        let reply = self.say(command.trim_end()).await?;
        // A wrong password can be put right: the page is not at fault.
        if reply.is_good() {
            Ok(())
        } else {
            Err(Failed::answered(&reply, false))
        }
    }
}

impl SnppChannel {
    /// Reads what the settings point to; connects only when there is something to send.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn new(settings: &DestinationSettings) -> Result<Self, String> {
        let secret = settings.read_secret()?;
        let login = (!settings.user.is_empty()).then(|| (settings.user.clone(), secret));
        if login.as_ref().is_some_and(|(_, secret)| !is_word(secret)) {
            return Err(format!(
                "alerts.destinations {:?} has a secret with spaces or control characters, which SNPP cannot carry",
                settings.name
            ));
        }
        Ok(Self {
            server: settings.server.clone(),
            pager: settings.to.clone(),
            level: settings.level,
            login,
        })
    }

    /// Pages. SNPP has no key for repeats: the code of the study tells a person that it is the same.
    pub async fn send(&self, notice: &Notice) -> Attempt {
        let text = ascii(&notice.pager());
        let attempt = match self.page(notice, &text).await {
            Ok(receipt) => Attempt {
                receipt,
                ..Outcome::Delivered.into()
            },
            Err(failed) => Attempt::from(failed.outcome).with_answer(&failed.said),
        };
        Attempt {
            message: Some(text),
            ..attempt
        }
    }

    async fn page(&self, notice: &Notice, text: &str) -> Result<Option<String>, Failed> {
        let mut exchange = Exchange::open(&self.server).await?;
        exchange.log_in(self.login.as_ref()).await?;
        // A server or pager that cannot answer is still paged.
        let two_way = self.level >= 3
            && notice.acknowledge.is_some()
            && exchange.say("2WAY").await?.is_good();
        if two_way {
            exchange.say("ACKR 1").await?;
            exchange.say("RTYP MULTICHOICE").await?;
        }
        if self.level >= 2 {
            // Extensions that a server need not know (RFC 1861, level 2): a refusal changes nothing.
            exchange
                .say(&format!("SUBJ {}", ascii(&notice.sender())))
                .await?;
            if notice.band() == Some(Band::Critical) {
                exchange.say("ALER 1").await?;
            }
        }
        exchange.must(&format!("PAGE {}", self.pager)).await?;
        exchange.must(&format!("MESS {text}")).await?;
        if two_way {
            for (code, answer) in ANSWERS {
                exchange.say(&format!("MCRE {code} {answer}")).await?;
            }
        }
        let sent = exchange.must("SEND").await?;
        // It is sent: what the server says to this changes nothing.
        let _ = exchange.say("QUIT").await;
        Ok(receipt(&sent).filter(|_| two_way))
    }

    /// Asks what the pager answered to a page of this receipt.
    ///
    /// # Errors
    /// In words of ours, when the server could not be asked.
    pub async fn reply(&self, receipt: &str) -> Result<PagerReply, String> {
        let asked = async {
            let mut exchange = Exchange::open(&self.server).await?;
            exchange.log_in(self.login.as_ref()).await?;
            exchange.say("2WAY").await?;
            let status = exchange.say(&format!("MSTA {receipt}")).await?;
            let _ = exchange.say("QUIT").await;
            Ok(pager_reply(&status))
        };
        asked.await.map_err(|failed: Failed| match failed.outcome {
            Outcome::Later(why) | Outcome::Never(why) => why,
            Outcome::Delivered => String::new(),
        })
    }
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic())
}

/// Pagers show ASCII; anything else would be anybody's guess.
fn ascii(text: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_graphic() || c == ' ' {
            c
        } else {
            '?'
        }
    };
    text.chars().map(plain).collect()
}

/// Message tag and pass code, by which an answer is asked for (RFC 1861, SEND of level 3).
fn receipt(sent: &Reply) -> Option<String> {
    let mut words = sent.text.split_whitespace();
    let (tag, pass) = (words.next()?, words.next()?);
    let is_number = |word: &str| word.len() <= 20 && word.bytes().all(|b| b.is_ascii_digit());
    (matches!(sent.code, 800..=999) && is_number(tag) && is_number(pass))
        .then(|| format!("{tag} {pass}"))
}

/// What a message's status says of its answer (RFC 1861, MSTA): 888 a choice, 889 free text.
fn pager_reply(status: &Reply) -> PagerReply {
    match status.code {
        888 | 889 => {}
        550 | 556 | 780 => return PagerReply::Never(status.said()),
        _ => return PagerReply::None,
    }
    // Tag and moment come first; the moment is YYMMDDHHMMSS with a zone.
    let mut words = status.text.split_whitespace().peekable();
    words.next();
    let is_moment =
        |word: &&str| word.len() >= 12 && word.as_bytes()[..12].iter().all(u8::is_ascii_digit);
    words.next_if(is_moment);
    let said: String = words.collect::<Vec<_>>().join(" ");
    let said = said.trim_end_matches("MCR Reply Received").trim();
    let said: String = ascii(said).chars().take(60).collect();
    let first = said.split(' ').next().unwrap_or_default();
    let first = first.trim_start_matches('0');
    let first = first.trim_matches(|c: char| !c.is_alphanumeric());
    let first = first.to_ascii_lowercase();
    if ["2", "no", "cannot"].contains(&first.as_str()) || said == ANSWERS[1].1 {
        PagerReply::Cannot(said)
    } else {
        PagerReply::Looks(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(line: &str) -> Reply {
        Reply::parse(line).unwrap()
    }

    #[test]
    fn replies_are_read_or_refused() {
        let check = |line: &str, expected: Option<(u16, &str)>| {
            let found = Reply::parse(line);
            let found = found.as_ref().map(|r| (r.code, r.text.as_str()));
            assert_eq!(found, expected, "{line}");
        };
        check("250 OK", Some((250, "OK")));
        check("250", Some((250, "")));
        check("860 12 34 Delivered", Some((860, "12 34 Delivered")));
        check("25", None);
        check("", None);
        check("+50 x", None);
        check("é50 x", None);
    }

    #[test]
    fn a_receipt_is_that_of_a_two_way_page() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(receipt(&reply(line)).as_deref(), expected, "{line}");
        };
        check(
            "860 12345 6789 Delivered, Awaiting Read Ack",
            Some("12345 6789"),
        );
        check("960 1 2 OK, Message QUEUED For Delivery", Some("1 2"));
        check("250 1 2 Message Sent", None);
        check("880 Message Delivered", None);
        check("860 1 2\u{661} x", None);
    }

    #[test]
    fn an_answer_is_understood() {
        let check = |line: &str, expected: PagerReply| {
            assert_eq!(pager_reply(&reply(line)), expected, "{line}");
        };
        let looks = |said: &str| PagerReply::Looks(said.into());
        let cannot = |said: &str| PagerReply::Cannot(said.into());
        check("888 12 261126040000+0 1 MCR Reply Received", looks("1"));
        check("888 12 261126040000+0 02 MCR Reply Received", cannot("02"));
        check("889 12 261126040000+0 On my way", looks("On my way"));
        check("889 12 No, in theatre", cannot("No, in theatre"));
        check("889 12 no", cannot("no"));
        check(
            "861 12 261126040000 Delivered, Awaiting Reply",
            PagerReply::None,
        );
        check("960 12 261126040000 Queued", PagerReply::None);
        check(
            "780 12 x Expired",
            PagerReply::Never("780 12 x Expired".into()),
        );
        check("550 Unknown", PagerReply::Never("550 Unknown".into()));
    }
}
