//! HTML out of text that nobody vouches for: everything but the tags written here is escaped, and what hides or reorders text is shown.

use crate::display::safe;

/// A page while it is written.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// A tag, or several, as they stand in this program.
    pub(super) fn raw(&mut self, tags: &'static str) -> &mut Self {
        self.0.push_str(tags);
        self
    }

    /// Text.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        escape(&mut self.0, &safe(text));
        self
    }

    /// Text of several lines.
    pub(super) fn lines(&mut self, text: &str) -> &mut Self {
        for (n, line) in text.split('\n').enumerate() {
            if n > 0 {
                self.0.push('\n');
            }
            self.text(line);
        }
        self
    }

    /// Text between two tags.
    pub(super) fn within(&mut self, open: &'static str, text: &str, close: &'static str) -> &mut Self {
        self.raw(open).text(text).raw(close)
    }

    /// What was written.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// Text that is safe between tags and inside of quoted attributes.
pub(super) fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
}

/// JSON that cannot end the element in which it stands, and means the same.
pub(super) fn json_in_html(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 16);
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_a_tag_an_attribute_or_an_end_of_a_script() {
        let mut html = Html::default();
        html.within("<b>", "</b><script>alert(\"1\")</script>' onx=\u{202e}&amp;", "</b>");
        let text = html.into_text();
        assert_eq!(
            text,
            "<b>&lt;/b&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#39; onx=\\u{202e}&amp;amp;</b>"
        );
        let value = serde_json::json!({ "t": "</script><!--<script>&\u{2028}\u{2029}" });
        let json = json_in_html(&value.to_string());
        assert!(!json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
    }
}
