"""Rules of the caption lexer in `ptb`: the token patterns of CoreNLP 3.4.1.

Letters outside character classes match in either case. Inside a class they match as written, by which a few
abbreviations (`Wash.` but not `wash.`) require a capital.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

SPACE = r"[ \t\u00a0\u2000-\u200a\u3000]"
NEWLINE = r"[\r\n\u2028\u2029\u000b\u000c\u0085]"
GAP = rf"(?:{SPACE}|{NEWLINE})"
SENTENCE_COMMA = r"[,;:\u3001]"
APOSTROPHE = r"(?:['\u0092\u2019]|(?i:&apos;))"
# Characters that are also typed for an apostrophe inside a word.
INNER_APOSTROPHE = r"(?:['`\u0091\u0092\u2018\u2019\u201b]|(?i:&apos;))"
HYPHEN = r"[-_\u058a\u2010\u2011]"
ALNUM = r"[A-Za-z0-9]"
SOFT_HYPHEN = "\u00ad"

Action = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern of tokens, with its lookahead and the conversion of the text to the token."""

    pattern: str
    followed_by: str = ""
    action: Action = str
    keep: int | None = None  # number of characters in the token; the rest is read again

    @property
    def regex(self) -> str:
        """The rule as one regular expression whose first group is the token."""
        return f"({self.pattern}){self.followed_by}"


# An HTML tag or comment is one token.
_TAG_NAME = r"[A-Za-z][A-Za-z0-9:.-]*"
_TAG_PART = rf" +{_TAG_NAME}(?: *= *(?:'[^']*'|\"[^\"]*\"))?"
_MARKUP = rf"<(?:[!?][A-Za-z-][^>\r\n]*|{_TAG_NAME}(?:{_TAG_PART})* */?|/{_TAG_NAME}) *>"


def _any(words: str) -> str:
    """Alternatives, longest first, so that the first one to match is the longest match."""
    return "|".join(re.escape(word) for word in sorted(words.split(), key=len, reverse=True))


def _character_class(keep: Callable[[str], bool]) -> str:
    """Inside of a character class: the characters beyond ASCII that `keep` accepts.

    Java's lexer reads 16 bits: pictographs and rare scripts beyond them are dropped from captions.
    """
    ranges: list[list[int]] = []
    for code in range(0x80, 0x10000):
        if keep(chr(code)):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\u{low:04x}-\\u{high:04x}" for low, high in ranges)


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] == "L"


def _is_mark(character: str) -> bool:
    """Whether a character is an accent or vowel sign of the scripts from Greek to Lao, which continue a word."""
    return "\u02c2" <= character <= "\u0ecd" and unicodedata.category(character) in ("Mn", "Mc", "Sk")


# Single-character tokens: ASCII and Latin-1, typography, letter-like symbols, arrows to pictographs, full width.
_SYMBOLS = (
    r"+%&~^|\\\u00a6-\u00a9\u00ac\u00ae-\u00b8\u00d7\u00f7\u2016\u2017\u2020-\u2023\u2030-\u2038\u203b\u203e-\u2042"
    r"\u2044\u207a-\u207f\u208a-\u208e\u2100-\u214f\u2190-\u2bff\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40"
    r"\uff5b-\uff65"
)
_BRACKETS = {"(": "-LRB-", ")": "-RRB-", "[": "-LSB-", "]": "-RSB-", "{": "-LCB-", "}": "-RCB-"}
_QUOTES = {
    **dict.fromkeys(("\u0091", "\u2018", "\u201b", "\u2039"), "`"),
    **dict.fromkeys(("'", "\u0092", "\u2019", "\u203a"), "'"),
    **dict.fromkeys(("\u0093", "\u201c", "\u00ab"), "``"),
    **dict.fromkeys(('"', "\u0094", "\u201d", "\u00bb"), "''"),
}
_FRACTIONS = {"\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
_CURRENCIES = {"\u00a2": "cents", "\u00a3": "#", **dict.fromkeys("\u0080\u00a4\u20a0\u20ac", "$")}


def _without_soft_hyphens(text: str) -> str:
    return text.replace(SOFT_HYPHEN, "") or "-"


def _no_break(text: str) -> str:
    return text.replace(" ", "\u00a0")


def _brackets_and_spaces(text: str) -> str:
    return _no_break(text).replace("(", "-LRB-").replace(")", "-RRB-")


def _ampersand(text: str) -> str:
    return re.sub("&amp;", "&", text, flags=re.IGNORECASE)


def _spelled_fraction(text: str) -> str:
    return _FRACTIONS.get(text, text)


def _currency(text: str) -> str:
    return _CURRENCIES.get(text, text)


def _quotes(text: str) -> str:
    text = re.sub("&quot;", '"', re.sub("&apos;", "'", text))
    return "".join(_QUOTES.get(character, character) for character in text)


def rules() -> tuple[Rule, ...]:
    """All rules, in the order in which they win ties. Built on demand: classifying letters takes a few ms."""
    letters = _character_class(_is_letter)
    digits = _character_class(lambda character: unicodedata.category(character) == "Nd")
    plain_letter = f"[A-Za-z{letters}]"
    marks = _character_class(_is_mark)
    letter = rf"(?:[A-Za-z{SOFT_HYPHEN}{letters}{marks}]|&[aeiouAEIOU](?i:acute|grave|uml);)"
    digit = f"[0-9{digits}]"
    alnum = f"[A-Za-z0-9{letters}{digits}]"
    word = rf"{letter}(?:{letter}|{digit})*(?:[.!?]{letter}(?:{letter}|{digit})*)*"
    return (
        *_words(word, letter, plain_letter),
        *_numbers(digit),
        *_compounds(),
        *_abbreviations(digit),
        *_names_with_dots(word, alnum),
        *_signs(alnum),
    )


def _words(word: str, letter: str, plain_letter: str) -> tuple[Rule, ...]:
    clitic = rf"{APOSTROPHE}(?:[msdMSD]|(?i:re|ve|ll))"
    negation = rf"[nN]{INNER_APOSTROPHE}[tT]"
    end_of_address = r"[^ \t\n\f\r\"<>|.!?(){},-]"
    path = rf"/[^ \t\n\f\r\"<>|()]+{end_of_address}"
    return (
        Rule(r"(?i:c\+\+|[cf]#)"),
        Rule(r"(?i:cannot)", keep=-3),
        Rule(r"'(?i:twas)", keep=-3),
        Rule(r"'(?i:tis)|(?i:gonna|gotta|lemme|gimme|wanna)", keep=-2),
        Rule(_MARKUP, action=_no_break),
        Rule(r"&(?i:MD|mdash|ndash);|[\u0096\u0097\u2013-\u2015]", action=lambda _: "--"),
        Rule(r"(?i:&amp;)", action=lambda _: "&"),
        Rule(word, followed_by=clitic, action=_without_soft_hyphens),
        Rule(
            rf"[A-Za-z{SOFT_HYPHEN}]*[A-MO-Za-mo-z]{SOFT_HYPHEN}*",
            followed_by=negation,
            action=_without_soft_hyphens,
        ),
        Rule(word, action=_without_soft_hyphens),
        *(Rule(pattern) for pattern in _words_with_apostrophes(plain_letter)),
        Rule(rf"[yY]{APOSTROPHE}", followed_by=plain_letter),
        Rule(rf"(?i:https?)://[^ \t\n\f\r\"<>|(){{}}]+{end_of_address}"),
        *(
            Rule(rf"(?i:www)\.(?:[^ \t\n\f\r\"<>|.!?(){{}},{no_slash}]+\.)+[a-zA-Z]{{2,4}}(?:{path})?")
            for no_slash in ("", "/")
        ),
        Rule(rf"(?:[^ \t\n\f\r\"`'<>|.!?(){{}},-_$]+\.)+(?i:com|net|org|edu)(?:{path})?"),
        Rule(
            r"(?:(?i:&lt;)|<)?[a-zA-Z0-9][^ \t\n\f\r\"<>|(){}\u00a0]*@(?:[^ \t\n\f\r\"<>|(){}.\u00a0]+\.)*"
            r"[^ \t\n\f\r\"<>|(){}.\u00a0]+(?:(?i:&gt;)|>)?"
        ),
        Rule(rf"@[a-zA-Z_][a-zA-Z_0-9]*|#{letter}+"),
        Rule(clitic, followed_by=r"[^A-Za-z]", action=_quotes),
        Rule(negation, action=_quotes),
    )


def _words_with_apostrophes(letter: str) -> tuple[str, ...]:
    inner = INNER_APOSTROPHE
    return (
        rf"{APOSTROPHE}[nN]{APOSTROPHE}?",
        rf"[lLdDjJ]{APOSTROPHE}",
        rf"(?i:dunkin|somethin|ol){APOSTROPHE}",
        rf"{APOSTROPHE}(?i:em|cause|till?)",
        rf"[A-HJ-XZn]{inner}{letter}{{2,}}",
        rf"{APOSTROPHE}[2-9]0[sS]",
        rf"{letter}+[aeiouyAEIOUY]{inner}[aeiouA-Z]{letter}*",
        r"(?i:cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l)",
        rf"[oO]{inner}[oO]",
    )


def _numbers(digit: str) -> tuple[Rule, ...]:
    fraction = rf"(?:{digit}{{1,4}}[- \u00a0])?{digit}{{1,4}}(?:\\?/|\u2044){digit}{{1,4}}"
    return (
        Rule(rf"{digit}{{1,2}}[-/]{digit}{{1,2}}[-/]{digit}{{2,4}}"),
        Rule(
            rf"[-+]?(?:{digit}*(?:[.:,\u00ad\u066b\u066c]{digit}+)+|{digit}+)",
            action=_without_soft_hyphens,
        ),
        Rule(r"[\u207a\u207b\u208a\u208b]?(?:[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+)"),
        Rule(fraction, action=_no_break),
        Rule(r"[\u00bc\u00bd\u00be\u2153-\u215e]", action=_spelled_fraction),
    )


def _compounds() -> tuple[Rule, ...]:
    part = rf"{ALNUM}+(?:-[A-Za-z]+){{0,2}}"
    return (
        Rule(r"-(?i:[RLC]RB|[LR]CB|[RL]SB)-"),
        Rule(r"(?i:pro-|anti-)"),
        Rule(rf"(?i:cap){APOSTROPHE}[nN]|[cC]{APOSTROPHE}(?i:est)"),
        Rule(rf"{part}(?:\\?/{part}){{1,2}}"),
        Rule(r"[A-Z]*\$|#"),
        Rule(
            r"[\u00a2\u00a3\u00a4\u00a5\u0080\u20a0\u20ac\u060b\u0e3f\u20a4\uffe0\uffe1\uffe5\uffe6]",
            action=_currency,
        ),
    )


_MONTHS_AND_DAYS = "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri"
_STATES = (
    "ala ariz calif colo conn ct dak fla ga ind kan kans ky md mich minn mo mont neb nev okla penn tenn"
    " va vt wis wisc wyo"
)
# These are words too, so that they are abbreviations only with a capital.
_STATES_THAT_ARE_WORDS = "Az Ark Del Ill La Mass Miss Ore Pa Tex Wash"
_ENDING_SENTENCES = (
    "inc co cos corp ltd plc rt bancorp bhd assn univ intl sys jr sr bros esq ed.d ph.d blvd rd tel est"
    " ext sq etc al seq bldg"
)
_TITLES = (
    "mr mrs ms dr drs prof profs sen sens rep reps atty attys lt col gen messrs gov govs adm rev maj"
    " sgt cpl pvt capt st ste ave pres lieut hon brig cmdr comdr pfc spc supt supts det mt ft adj adv"
    " asst assoc ens insp mlle mme msgr sfc"
)
_INSIDE_SENTENCES = "vs alex wm jos cie a.k.a cf treas ph invt elec natl dept"
_BEFORE_NUMBERS = "ca fig figs prop no nos art bldg pp op"
_FILE_ENDINGS = (
    "bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl"
    " png ppt ps py sql tar txt wav x xml zip wm 3gp wmv wma avi flv mp4"
)
_SENTENCE_STARTS = (
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last Many"
    " More Mr. Ms. Now Once One Other Our She Since So Some Such That The Their Then There These They"
    " This We What When While Yet You"
)


def _abbreviations(digit: str) -> tuple[Rule, ...]:
    acronym = r"(?:(?i:non-u\.s)|[A-Za-z](?:\.[A-Za-z])+)"
    ending = _any(f"{_MONTHS_AND_DAYS} {_STATES} {_ENDING_SENTENCES}")
    inside = _any(f"{_TITLES} {_INSIDE_SENTENCES}")
    capitalised = "|".join(f"{word[0]}(?i:{word[1:]})" for word in _STATES_THAT_ARE_WORDS.split())
    ending = rf"(?:(?i:{ending})|(?i:pp?t)[ye][sS]?|{capitalised})\."
    sentence_starts = "|".join(f"{word[0]}(?i:{re.escape(word[1:])})" for word in _SENTENCE_STARTS.split())
    return (
        Rule(rf"(?i:{_any(_BEFORE_NUMBERS)})\.", followed_by=rf"{GAP}?{digit}"),
        # The lookahead of two characters lets these win over a word with a full stop inside: `co.x`.
        Rule(ending, followed_by=r"(?s:..)"),
        Rule(ending),
        Rule(rf"(?:(?i:{inside})|[mM][ft][gG]|{acronym}|[A-Za-z])\."),
        # A single letter before a word that begins sentences ends a sentence: `vitamin C. The`.
        Rule(r"[A-Za-z]", followed_by=rf"\.{GAP}+(?:{sentence_starts}|{_MARKUP}){GAP}"),
        Rule(acronym, followed_by=GAP),
        Rule(rf"{APOSTROPHE}[0-9][0-9]", followed_by=GAP),
    )


def _names_with_dots(word: str, alnum: str) -> tuple[Rule, ...]:
    return (
        Rule(rf"{alnum}+(?:\.{alnum}+)*\.(?i:{_any(_FILE_ENDINGS)})", followed_by=rf"(?:{GAP}|[.?!,])"),
        Rule(rf"{word}\.", followed_by=SENTENCE_COMMA, action=_without_soft_hyphens),
        Rule(
            r"(?:\([0-9]{2,3}\)[ \u00a0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0])"
            r"[0-9]{3,4}[- \u00a0]?[0-9]{3,5}|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}",
            action=_brackets_and_spaces,
        ),
    )


def _signs(alnum: str) -> tuple[Rule, ...]:
    quote = rf"(?:[`\u2018-\u201f\u0091-\u0094\u2039\u203a\u00ab\u00bb]{{1,2}}|''|{APOSTROPHE})"
    face = r"[-^x=~<>']"
    part = rf"(?:[dDoOlL]{INNER_APOSTROPHE}{alnum})?{alnum}+"
    hyphenated = rf"{ALNUM}[A-Za-z0-9.,{SOFT_HYPHEN}]*(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|[A-Za-z0-9{SOFT_HYPHEN}]+))+"
    initials = r"[A-Z]+(?:(?:(?i:&amp;)|[+&])[A-Z]+)+"
    return (
        Rule(r"(?i:&nbsp;)", action=lambda _: ""),
        Rule(r"\"|(?i:&quot;)", action=_quotes),
        Rule(r"<|(?i:&lt;)", action=lambda _: "<"),
        Rule(r">|(?i:&gt;)", action=lambda _: ">"),
        Rule(r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]", followed_by=r"[^A-Za-z0-9]", action=_brackets_and_spaces),
        Rule(
            rf"{face}_{face}|\({face}[_.]?{face}\)|\([\^x=~<>']-[\^x=~<>'`]\)",
            action=_brackets_and_spaces,
        ),
        Rule(r"[()\[\]{}]", action=lambda bracket: _BRACKETS[bracket]),
        Rule(r"-+", action=lambda dashes: "--" if len(dashes) in (3, 4) else dashes),
        Rule(r"\.{3,5}|(?:\.[ \u00a0]){2,4}\.|[\u0085\u2026]", action=lambda _: "..."),
        Rule(r"@+|#+|_+|\*+|(?:\\\*){1,3}|[?!]+|=|/"),
        Rule(SENTENCE_COMMA),
        Rule(r"[.\u00a1\u00bf\u037e\u061f\u06d4\u3002]"),
        Rule(rf"{hyphenated}\.", followed_by=SENTENCE_COMMA, action=_without_soft_hyphens),
        Rule(hyphenated, action=_without_soft_hyphens),
        Rule(rf"(?:{part}(?:{HYPHEN}{part})*)\.", followed_by=SENTENCE_COMMA),
        Rule(rf"{part}(?:{HYPHEN}{part})*"),
        Rule(rf"{initials}\.", followed_by=SENTENCE_COMMA, action=_ampersand),
        Rule(initials, action=_ampersand),
        Rule(r"'", followed_by=r"[A-Za-z][^ \t\n\r\u00a0]"),
        Rule(rf"{APOSTROPHE}(?:[msdMSD]|(?i:re|ve|ll))", action=_quotes),
        Rule(quote, action=_quotes),
        Rule(r"<<|>>"),
        Rule(f"[{_SYMBOLS}]"),
    )
