"""Prints python_re.json: what CPython's re.match with IGNORECASE makes of patterns and names.

    python3 python_re.py > python_re.json
"""

import json
import random
import re
import sys
import warnings

NAMES = [
    "Account", "account", "AccountHistory", "Account__c", "ns__Invoice__c", "Opportunity Line", "a", "A", "b", "ab",
    "aab", "abab", "aaaaaaaaaaaa", "abc", "abcabc", "a.b", "a-b", "a]b", "[x]", "a&b", "a{2}", "{}", "a\\b", "1", "12",
    "2024", "x1", "_", "__c", "My__mdt", "svc.default.salesforce.Account", 'svc."crm.eu".salesforce.Case', "tab\there",
    "two\nlines", "end\n", "end\n\n", "\n", " ", "\x1c", "\x08", "É", "éa", "naïve", "ı", "İ", "ſ", "K", "ß", "ẞ",
    "Ω", "ω", "½", "٣", "a\u0301", "‿", "日本", "😀", "\x00", "$", "(a)", "^", "i", "I", "s", "k",
]

PATTERNS = [
    # As people write them.
    "Account", "account$", ".*__c$", "^Account.*", "(?!.*__c$).*", ".*(History|Share|Feed|ChangeEvent)$", "[A-Z].*",
    "^(?!Account$).*$", "a|b", "Account|Opportunity.*", r"svc\.default\.salesforce\..*", r'svc\."crm\.eu"\..*', ".*", "",
    "^$", "(?:Account|Case)$", r"\w+__\w+__c", r"^[a-z0-9_]+$", ".*__(c|mdt|e|b|x)$", "*", "*.c", "Account*",
    # The ends.
    "$", "^", "a$", "end$", r"end\Z", r"end\n$", r"end\n\Z", r"end\n", r"(end$)\n", "$$", "a$b", r"\Aa", r"a\A", r".+\Z",
    "(?m)two$", "(?m)two\n^lines", "(?m)^", "(?m:two$)", "(?m:two$)\n", "(?s)two.lines", "two.lines", "(?s:two.)lines",
    "(?ms)two$.lines$", "(?-s:two.)", "(?s)(?-s:two.)", "(?s-m:two.)",
    # Sets.
    "[[]x[]]", "[[:alpha:]]", "[[:alpha:]]+", "[a&&b]", "[a&]+", "[a||b]", "[a--b]", "[a~~b]", "[]a]+", "[^]a]", "[^^]", "[a^]",
    "[-a]+", "[a-]+", r"[\]a]+", r"[a\-b]+", r"[\w-]+", r"[\w.-]+$", r"[a-\w]", r"[\w-a]", "[b-a]", "[a", "[", "[]", "[^]",
    "[^a]", "[^A]", r"[\d]+", r"[^\d]+$", r"[\D]", r"[\s]", r"[\S]+$", r"[\W]", r"[^\W]+$", r"[^\s\S]", r"[\s\S]+$", r"[\b]",
    r"[\x41-\x43]+", r"[\101]", r"[\60-\71]+$", r"[\8]", r"[\400]", r"[\n]", r"[\A]", r"[\Z]", r"[\q]", r"[\.]", r"[\N{DIGIT ONE}]",
    "[h-j]", "[^h-j]$", "[ı]", "[^i]$", "[\u00c0-\u00ff]", "[😀]", "[a-z]$", "[^a-z]$", "(?-i:[h-j])$", "[ ]", "[\t]", "[k]", "[^k]$",
    # Escapes.
    r"\d+$", r"\D+$", r"\s", r"\S+$", r"\w+$", r"\W", r"\bAccount\b", r"a\b", r"a\B", r"\B", r"\b", r"\w+\b$", r"(?:.\b)+$",
    r"(?:.\B)+$", r"\0", r"\00", r"\08", r"\101", r"\1", r"\18", r"\8", r"\400", r"\777", r"\x61", r"\x6", r"\u0061", r"\u006", r"\U00000061",
    r"\U00110000", r"\N{DIGIT ONE}", r"\N{LATIN SMALL LETTER A}", r"\cA", r"\h", r"\e", r"\z", r"\G", r"\K", r"\R", r"\X", r"\p{L}", r"\Q.\E",
    r"\a", r"\f", r"\n", r"\r", r"\t", r"\v", r"\\", r"a\\b", r"\.", r"\-", r"\_", r"\é", r"\ ", r"\{", r"\[x\]", r"\$", r"\^", r"\(a\)", "\\",
    # Repeats.
    "a*", "a+", "a?", "a*?b", "a+?b", "a??b", "a*+a", "a++b", "a?+b", "a{2}", "a{2,}", "a{,2}b", "a{1,2}$", "a{,}$", "a{}", "a{", "a{x}", "a{1,2",
    "a{2,1}", "a{1}{2}", "a**", "a+*", "a?*", "a*??", "a++?", "a+++", "^*", "$*", r"\b+", "(*)", "(?:)*", "()*", "(a*)*", "(a*)+$", "(a|b)*$", "(ab)+$",
    "+a", "?a", "{2}", "{2}a", "{}", "{", "}", "]", "a|*", "(|a)", "(a|)b", "|", "||", "a{2}?", "a{2}+", "(?:ab){2}", "a{0}b", "a{0,0}b", "a{4294967296}",
    "a{99999999999999999999}", "(?:a{2}){3}", "(?:a|ab)(?:c|bcd)?", "a(?#c)*", "(?#c)*", "a(?#)b", "(?#x", "a{1,1}+",
    # Groups.
    "(a)(b)", "(a", "a)", ")", "(", "()", "(?:", "(?:a)", "(?a", "(?", "(?P<n>a)b", "(?P<n>a)(?P<n>b)", "(?P<1>a)", "(?P<>a)", "(?P<n", "(?P<n>a)(?P=n)",
    "(?P=n)", "(?P>n)", "(?Pn)", "(?<n>a)", "(?'n'a)", r"(a)\1", r"(a)(?:b\1)?$", r"(a)\2", r"(a\1)", r"(a)|b\1", r"(a)?\1", r"(a)?b\1", r"(A)\1", r"(?-i:(a)\1)", r"(\w)\1", r"(ab)\1$",
    "(?=a)", "(?=a)a", "(?!a)", "(?!A)", "(?!.*b)", "a(?=b)", "a(?!b)", "(?<=a)b", "a(?<=a)b", "a(?<!a)b", "a(?<!b)b", "(?<=a*)b", "(?<=a|bc)d", "(?<=a|b)b", "ab(?<=ab)",
    "ab(?<=a.)$", "(?<=(a))b", r"a(?<=(a)\1)", r"(a)(?<=\1)b", "(?<!a{2})b", "aab(?<=a{2}b)", "(?>a*)b", "(?>a*)a", "(?>a|ab)c", "(?:(?=a))*a", "(?=a)*a", "(?=a)+a", "(?!a)*b",
    "(a)(?(1)b|c)", "(?(1)b|c)", "(?P<n>a)(?(n)b)", "(?=(a))(?=a)", "((((a))))", "(?:(?:(?:a)))", "(?R)", "(?1)", "(?&n)", "(?|a|b)", "(?#)", "(?^a)",
    # Flags.
    "(?i)a", "(?-i)a", "(?-i:a)$", "(?i-i:a)", "(?-i:A)(?:a)", "(?-i:(?i:a))$", "(?i:a)b", "(?u)a", "(?u:a)", "(?-u:a)", "(?a)a", "(?a:a)", "(?L)a", "(?x) a", "(?x: a )", "(?s)", "a(?i)", "a(?i)b",
    "(?i)(?s)a.", "(?:(?i)a)", "(?i", "(?i:", "(?i:a", "(?z)a", "(?im-s:a)", "(?i-)a", "(?-)a", "(?)", "(?iz)", "a|(?i)b", "(?#c)(?i)a", "(?ii)a",
    # Letters and their cases.
    "É", "é", "(?-i:é)", "ss", "ß", "ẞ", "s", "ſ", "k", "K", "i", "I", "ı", "İ", "i+$", "(?-i:i)$", "Ω", "ω", "Σ", "ς", "日本", "日.", "😀", ".$", "..$", "naı?ïve",
    r"\w$", r"\W$", r"\d$", r"\s$", "½", "a\u0301", "ѐ", "ǆ",
    # What takes long.
    "(a+)+$", "(a|aa)+$", "(a|a)*b", "(.*)*x", "(x+x+)+y",
]


def expectation(pattern):
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except (re.error, OverflowError):
        return {"pattern": pattern}
    return {"pattern": pattern, "matches": [index for index, name in enumerate(NAMES) if compiled.match(name)]}


PIECES = (
    list("abAB01_ .-[](){}|^$*+?,:=!<>&~\\éıI\n")
    + [r"\d", r"\W", r"\b", r"\B", r"\s", r"\S", r"\w", r"\1", r"\2", r"\n", r"\x41", r"\101", r"\Z", r"\A", r"\.", r"\]", r"\-"]
    + ["(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?P<n>", "(?P=n)", "(?i:", "(?-i:", "(?s)", "(?m)", "(?m:", "(?s:", "(?#", ")", ")", ")", ")"]
    + ["{2}", "{1,}", "{,3}", "{0,1}", "*?", "+?", "*+", "++", "?+", "[a-c]", "[^a", "[]", "[^]", "ab", "Account", ".*", "__c", "a+"]
)


def main():
    warnings.simplefilter("ignore")
    assert len(PATTERNS) == len(set(PATTERNS)), [p for p in PATTERNS if PATTERNS.count(p) > 1]
    choose = random.Random(1)
    patterns = PATTERNS + ["".join(choose.choices(PIECES, k=choose.randint(2, 9))) for _ in range(1500)]
    rows = ",\n".join(json.dumps(expectation(pattern)) for pattern in dict.fromkeys(patterns))
    version = ".".join(map(str, sys.version_info[:3]))
    print('{"python": "%s",\n"names": %s,\n"patterns": [\n%s\n]}' % (version, json.dumps(NAMES), rows))


main()
