//! Rules that an operator adds: what is understood, and that what is not is named, all of it at once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::sync::Arc;

use casefile_redact::{Key, Pseudonyms, Redactor, RuleSet};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

fn with(text: &str) -> Result<RuleSet, Vec<String>> {
    RuleSet::with(&[("mine.toml".to_owned(), text.to_owned())])
}

fn redacted(rules: RuleSet, text: &str) -> String {
    let redactor = Redactor::new(Arc::new(rules), Key::new([9; 32]), Pseudonyms::default());
    let out = redactor.stream().record(text.as_bytes(), true).to_vec();
    String::from_utf8(out).unwrap()
}

fn problems(text: &str) -> Vec<String> {
    with(text).map(|_| ()).unwrap_err()
}

#[test]
fn rules_of_our_own_format_are_added() {
    let rules = with(
        r#"
        [[rules]]
        id = "shop-pin"
        about = "Personal numbers of the shop"
        names = ["shop-pin"]
        positive = ["SHOP_PIN=«4711»"]

        [[rules]]
        id = "shop-key"
        about = "Keys of the shop"
        starts = ["shop_"]
        regex = 'shop_[a-z0-9]{8}'
        allow = ['^shop_00000000$']

        [[rules]]
        id = "shop-voucher"
        about = "Vouchers"
        keywords = ["voucher"]
        regex = 'voucher (?P<secret>[A-Z0-9]{6})'
        entropy = 2.0
        "#,
    )
    .unwrap();
    assert_eq!(rules.rules().count(), RuleSet::builtin().rules().count() + 3);
    let text = redacted(
        rules,
        "shopPin: 4711 with shop_abcd1234, shop_00000000, voucher ABC123, voucher AAAAAA, password=hunter2",
    );
    for id in ["shop-pin", "shop-key", "shop-voucher", "password"] {
        assert!(text.contains(&format!("[redacted:{id}:")), "{id}: {text}");
    }
    assert!(text.contains("shop_00000000") && text.contains("AAAAAA"), "{text}");
}

#[test]
fn every_problem_of_every_file_is_named_at_once() {
    let files = [
        ("a.toml".to_owned(), "rules = 3".to_owned()),
        (
            "b.toml".to_owned(),
            r#"
            [[rules]]
            id = "Not An Id"
            about = "x"
            names = ["abc"]
            [[rules]]
            id = "two-ways"
            about = "x"
            names = ["abc"]
            starts = ["abc"]
            [[rules]]
            id = "no-about"
            names = ["abc"]
            [[rules]]
            id = "bad-regex"
            about = "x"
            starts = ["abc"]
            regex = 'a('
            [[rules]]
            id = "huge-regex"
            about = "x"
            starts = ["abc"]
            regex = '(?:a{1000}){1000}'
            [[rules]]
            id = "short"
            about = "x"
            names = ["a"]
            [[rules]]
            id = "engine"
            about = "x"
            engine = "private-key"
            [[rules]]
            id = "password"
            about = "There is one already"
            names = ["kennwort"]
            [[rules]]
            id = "wrong-samples"
            about = "x"
            names = ["kennung"]
            positive = ["kennung is fine", "kennung=«abc» kennung=abc"]
            negative = ["kennung=abc"]
            "#
            .to_owned(),
        ),
        ("c.toml".to_owned(), "#".repeat(2 << 20)),
    ];
    let problems = RuleSet::with(&files).map(|_| ()).unwrap_err();
    for part in [
        "a.toml: ",
        "Not An Id",
        "two-ways",
        "no-about",
        "bad-regex",
        "huge-regex",
        "short",
        "engine",
        "rule password: there is another",
        "c.toml: 2097152 bytes",
    ] {
        assert!(problems.iter().any(|p| p.contains(part)), "{part} is missing in {problems:#?}");
    }
    assert_eq!(problems.iter().filter(|p| p.contains("wrong-samples")).count(), 3, "{problems:#?}");
}

#[test]
fn a_file_of_gitleaks_is_understood() {
    let rules = with(
        r#"
        title = "rules of the company"
        [[rules]]
        id = "Company_Token"
        description = "Tokens of the company"
        regex = '(?i)\bcmp-([a-z0-9]{12})\b'
        keywords = ["cmp-"]
        entropy = 2.5
        tags = ["x"]
        [rules.allowlist]
        stopwords = ["example"]
        regexes = ['^0123']
        [[rules]]
        id = "company-login"
        description = "Logins"
        regex = 'login{user=(\w+),code=(\w+)}'
        secretGroup = 2
        [[rules]]
        id = "jwt"
        description = "There is one of ours"
        regex = 'jwt\d'
        [[rules]]
        id = "by-path"
        description = "A rule about files"
        path = '\.pem$'
        [allowlist]
        paths = ['vendor/']
        regexes = ['^dummy']
        "#,
    )
    .unwrap();
    let ids: Vec<_> = rules.rules().map(|r| r.id.clone()).collect();
    assert_eq!(ids[ids.len() - 3..], ["company-token", "company-login", "jwt-gitleaks"]);
    let text = redacted(
        rules,
        "cmp-abc123def456 cmp-aaaaaaaaaaaa cmp-example12345 cmp-0123abcd4567 login{user=bob,code=x7} login{user=bob,code=dummy1}",
    );
    assert!(text.starts_with("cmp-[redacted:company-token:"), "{text}");
    assert!(
        text.contains(
            "] cmp-aaaaaaaaaaaa cmp-example12345 cmp-0123abcd4567 login{user=bob,code=[redacted:company-login:"
        ),
        "{text}"
    );
    assert!(text.ends_with("login{user=bob,code=dummy1}"), "{text}");
}

#[test]
fn what_cannot_be_applied_of_gitleaks_is_named_by_rule() {
    let problems = problems(
        r#"
        [extend]
        useDefault = true
        [[rules]]
        id = "look-ahead"
        description = "x"
        regex = 'a(?=b)'
        [[rules]]
        id = "no-regex"
        description = "x"
        [[rules]]
        id = "group"
        description = "x"
        regex = 'a(b)'
        secretGroup = 7
        "#,
    );
    for part in ["extend.useDefault", "look-ahead", "no-regex", "secretGroup 7"] {
        assert!(problems.iter().any(|p| p.contains(part)), "{part} is missing in {problems:#?}");
    }
    assert_eq!(problems.len(), 4, "{problems:#?}");
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_is_rules_or_problems_and_never_a_panic(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("[[rules]]\n".to_owned()), Just("id = \"a\"\n".to_owned()), Just("about = \"x\"\n".to_owned()),
                Just("description = \"x\"\n".to_owned()), Just("regex = '('\n".to_owned()), Just("regex = '()*'\n".to_owned()),
                Just("names = [\"abc\"]\n".to_owned()), Just("keywords = [\"\"]\n".to_owned()), Just("[allowlist]\n".to_owned()),
                Just("starts = [\"ü\u{1F980}\"]\n".to_owned()), Just("positive = [\"«\", \"»«·\"]\n".to_owned()), Just("secretGroup = -1\n".to_owned()),
                any::<String>(), "[a-z]{1,8} = .{0,20}\n".prop_map(String::from),
            ], 0..12),
    ) {
        let _ = with(&pieces.concat());
    }
}
