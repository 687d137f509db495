"""Captions in XMP, the metadata format of photo programs.

Two properties hold the caption: `dc:description` (XMP specification part 1, ISO 16684-1, Dublin Core) and
`Iptc4xmpCore:AltTextAccessibility` (IPTC Photo Metadata Standard 2021.1, "Alt Text (Accessibility)"). Both are
language alternatives, of which only `x-default` is written. Keywords are items of `dc:subject`, a bag. In a namespace
of its own captionlens records what it wrote and of which file, so that it never takes a person's words for its own.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.dom.minidom import Document, Element, Node
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape, quoteattr

from defusedxml import DefusedXmlException, minidom

from captionlens.outputs.keywords import change

_NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "captionlens": "urn:captionlens:xmp:1.0#",
}
_XML, _XMLNS = "http://www.w3.org/XML/1998/namespace", "http://www.w3.org/2000/xmlns/"
_OURS = (("dc", "description"), ("Iptc4xmpCore", "AltTextAccessibility"))
_FILE = {"PhotographSize": "size", "PhotographModified": "modified", "PhotographSha256": "sha256"}

# The packet wrapper of ISO 16684-1, section 7.3.2.
_EMPTY = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="captionlens">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
   xmlns:Iptc4xmpCore="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/" xmlns:captionlens="urn:captionlens:xmp:1.0#">
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


@dataclass(frozen=True, slots=True)
class Source:
    """Record that captionlens writes into a packet, to know its captions again."""

    model: str = ""
    file: Mapping[str, Any] | None = None  # of the photograph, see `files.stamp`


@dataclass(frozen=True, slots=True)
class Found:
    """The caption of a packet.

    `ours` tells that captionlens wrote the description, and nobody has changed it since; `file` are then the facts of
    the photograph, where they were recorded. `keywords` is the record of the keywords that captionlens added, see
    `outputs.keywords`; None: it was not asked for any.
    """

    description: str
    alternative_text: str
    ours: bool
    file: Mapping[str, Any] | None
    keywords: str | None = None


class Packet:
    """An XMP packet, parsed once to be read and changed.

    Args:
        content: of the packet; None for a new one.

    Raises:
        ValueError: it is not XMP that can be changed safely; the message gives the cause.
    """

    def __init__(self, content: bytes | None = None) -> None:
        self._document, self._rdf = _parse(_EMPTY.encode() if content is None else content)

    @property
    def found(self) -> Found:
        """The caption that it has."""
        description, alternative_text = (_default(self._rdf, prefix, name) for prefix, name in _OURS)
        written = _property(self._rdf, "captionlens", "Caption")
        ours = written == description
        if written is None:  # versions before 0.2 named themselves in the packet's head alone
            root = self._document.documentElement
            ours = root is not None and root.getAttributeNS("adobe:ns:meta/", "xmptk") == "captionlens"
        file = {key: value for name, key in _FILE.items() if (value := _property(self._rdf, "captionlens", name))}
        return Found(description, alternative_text, ours, file or None, _property(self._rdf, "captionlens", "Keywords"))

    def describe(
        self,
        text: str,
        *,
        source: Source | None = None,
        fill: bool = False,
        keywords: Sequence[str] | None = None,
        again: bool = False,
    ) -> bytes:
        """Write the caption into the packet, keep everything else, and return its content in UTF-8.

        Descriptions in named languages stay as they are. A description of somebody else is kept as
        `captionlens:Replaced`.

        Args:
            text: the caption.
            source: of the caption, to be recorded.
            fill: write only what is empty.
            keywords: of the caption, which join those that are there; None leaves all as they are.
            again: write also keywords that a person has removed since, see `outputs.keywords.change`.

        Raises:
            ValueError: the packet cannot be changed safely; the message gives the cause.
        """
        document, rdf, former = self._document, self._rdf, self.found
        text = _xml_characters(text)
        try:
            for (prefix, name), there in zip(_OURS, (former.description, former.alternative_text), strict=True):
                if not (fill and there):
                    _set(document, rdf, prefix, name, text)
            if former.description and not former.ours and not fill and former.description != text:
                _record(document, rdf, "Replaced", former.description)
            if source is not None:
                _record(document, rdf, "Caption", text)
                _record(document, rdf, "Model", source.model)
                for name, key in _FILE.items():
                    if (value := (source.file or {}).get(key)) is not None:
                        _record(document, rdf, name, str(value))
            if keywords is not None:
                changed = change(_items(rdf), former.keywords or "", map(_xml_characters, keywords), again=again)
                _change_items(document, rdf, changed.removed, changed.added)
                _record(document, rdf, "Keywords", changed.record)
            return _serialise(document).encode()
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def _parse(existing: bytes) -> tuple[Document, Element]:
    """Parse a packet; return its document and its rdf:RDF."""
    try:
        document = minidom.parse(io.BytesIO(existing), forbid_dtd=True)
    except DefusedXmlException as error:
        raise ValueError("declares a document type or entities, which XMP never does") from error
    except (ExpatError, UnicodeError, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"not well-formed XML ({error})") from error
    try:
        found = document.getElementsByTagNameNS(_NAMESPACES["rdf"], "RDF")
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not found:
        raise ValueError("XML, but not XMP: it has no rdf:RDF")
    return document, found[0]


def _default(rdf: Element, prefix: str, name: str) -> str:
    """The default language of a property."""
    short = _property(rdf, prefix, name)
    for there in _properties(rdf, prefix, name):
        for item in there.getElementsByTagNameNS(_NAMESPACES["rdf"], "li"):
            if item.getAttributeNS(_XML, "lang") == "x-default":
                return _content(item)
    return (short or "").strip()


def _property(rdf: Element, prefix: str, name: str) -> str | None:
    """The text of a simple property, as an element or in the short notation."""
    for description in _elements(rdf):
        if description.hasAttributeNS(_NAMESPACES[prefix], name):
            return str(description.getAttributeNS(_NAMESPACES[prefix], name))
    return next((_content(there) for there in _properties(rdf, prefix, name)), None)


def _properties(rdf: Element, prefix: str, name: str) -> Iterator[Element]:
    for description in _elements(rdf):
        yield from (child for child in _elements(description) if _is(child, prefix, name))


def _content(element: Element) -> str:
    texts = (Node.TEXT_NODE, Node.CDATA_SECTION_NODE)
    return "".join(child.nodeValue or "" for child in element.childNodes if child.nodeType in texts)


def _record(document: Document, rdf: Element, name: str, text: str) -> None:
    """Set a simple property of our own namespace."""
    for description in _elements(rdf):
        if description.hasAttributeNS(_NAMESPACES["captionlens"], name):
            description.removeAttributeNS(_NAMESPACES["captionlens"], name)
    there = next(_properties(rdf, "captionlens", name), None)
    if there is None:
        home = next(child for child in _elements(rdf) if _is(child, "rdf", "Description"))
        there = _append(document, home, "captionlens", name)
    for child in list(there.childNodes):
        there.removeChild(child)
    there.appendChild(document.createTextNode(text))


def _set(document: Document, rdf: Element, prefix: str, name: str, text: str) -> None:
    """Set the default language of one property to `text`."""
    namespace = _NAMESPACES[prefix]
    descriptions = [child for child in _elements(rdf) if _is(child, "rdf", "Description")]
    there = None
    for description in descriptions:
        if description.hasAttributeNS(namespace, name):  # short notation, of which one language is all
            description.removeAttributeNS(namespace, name)
        there = next((child for child in _elements(description) if _is(child, prefix, name)), there)
    if there is None:
        home = descriptions[0] if descriptions else _append(document, rdf, "rdf", "Description")
        if not descriptions:
            home.setAttributeNS(_NAMESPACES["rdf"], _name(home, "rdf", "about"), "")
        there = _append(document, home, prefix, name)
    alternatives = next((child for child in _elements(there) if _is(child, "rdf", "Alt")), None)
    if alternatives is None:
        for child in list(there.childNodes):
            there.removeChild(child)
        alternatives = _append(document, there, "rdf", "Alt")
    items = [child for child in _elements(alternatives) if _is(child, "rdf", "li")]
    default = next((item for item in items if item.getAttributeNS(_XML, "lang") == "x-default"), None)
    if default is None:
        first = alternatives.firstChild
        default = _append(document, alternatives, "rdf", "li")
        default.setAttributeNS(_XML, "xml:lang", "x-default")
        if first is not None:
            alternatives.insertBefore(default, first)  # the specification requires it first
    for child in list(default.childNodes):
        default.removeChild(child)
    default.appendChild(document.createTextNode(text))


def _items(rdf: Element) -> list[str]:
    """The keywords, as items of a bag or, as some write a single one, in the property itself."""
    namespace = _NAMESPACES["dc"]
    short = [there.getAttributeNS(namespace, "subject") for there in _elements(rdf)]
    long = [item for there in _properties(rdf, "dc", "subject") for item in _bag(there) or [there]]
    return [word for word in (*short, *(_content(item).strip() for item in long)) if word]


def _bag(subject: Element) -> list[Element]:
    """Items of a property's bag; some programs write another kind of list."""
    return [item for list_ in _elements(subject) for item in _elements(list_) if _is(item, "rdf", "li")]


def _change_items(document: Document, rdf: Element, removed: Sequence[str], added: Sequence[str]) -> None:
    """Remove items from the keywords, and add others at the end."""
    subjects = list(_properties(rdf, "dc", "subject"))
    for list_ in (list_ for subject in subjects for list_ in _elements(subject)):
        for item in list(_elements(list_)):
            if _is(item, "rdf", "li") and _content(item).strip() in removed:
                list_.removeChild(item)
    if not added:
        return
    if subjects:
        there = subjects[0]
    else:
        home = next(child for child in _elements(rdf) if _is(child, "rdf", "Description"))
        there = _append(document, home, "dc", "subject")
    bag = next(iter(_elements(there)), None)
    single = _content(there).strip() if bag is None else ""
    if bag is None:
        for child in list(there.childNodes):
            there.removeChild(child)
        bag = _append(document, there, "rdf", "Bag")
    for description in _elements(rdf):  # a property stands once: its short notation becomes an item
        if description.hasAttributeNS(_NAMESPACES["dc"], "subject"):
            single = description.getAttributeNS(_NAMESPACES["dc"], "subject")
            description.removeAttributeNS(_NAMESPACES["dc"], "subject")
    for word in (single, *added):
        if word:
            _append(document, bag, "rdf", "li").appendChild(document.createTextNode(word))


def _append(document: Document, parent: Element, prefix: str, name: str) -> Element:
    """Append a child; its prefix is declared on it where `parent` has none for the namespace."""
    namespace = _NAMESPACES[prefix]
    qualified = _name(parent, prefix, name)
    child = document.createElementNS(namespace, qualified)
    if _uri(parent, qualified.partition(":")[0]) != namespace:
        child.setAttributeNS(_XMLNS, f"xmlns:{prefix}", namespace)
    parent.appendChild(child)
    return child


def _name(element: Element, prefix: str, name: str) -> str:
    """`name` with the prefix bound to our namespace at `element`, preferably our own."""
    namespace = _NAMESPACES[prefix]
    if _uri(element, prefix) == namespace:
        return f"{prefix}:{name}"
    scope: Node | None = element
    while isinstance(scope, Element):
        for attribute, value in scope.attributes.items():
            theirs = attribute.removeprefix("xmlns:")
            if value == namespace and theirs != attribute and _uri(element, theirs) == namespace:
                return f"{theirs}:{name}"
        scope = scope.parentNode
    return f"{prefix}:{name}"


def _uri(element: Element, prefix: str) -> str | None:
    """Namespace bound to a prefix at `element`."""
    scope: Node | None = element
    while isinstance(scope, Element):
        if scope.hasAttribute(f"xmlns:{prefix}"):
            return scope.getAttribute(f"xmlns:{prefix}")
        scope = scope.parentNode
    return None


def _elements(parent: Element) -> list[Element]:
    return [child for child in parent.childNodes if isinstance(child, Element)]


def _is(element: Element, prefix: str, name: str) -> bool:
    return element.namespaceURI == _NAMESPACES[prefix] and element.localName == name


def _serialise(node: Node) -> str:
    """Serialise as `toxml` does, but keep line breaks in attributes (lost before Python 3.13) and returns in text."""
    if isinstance(node, Document):
        declaration = '<?xml version="1.0" encoding="UTF-8"?>\n' if node.version else ""
        return declaration + "\n".join(_serialise(child) for child in node.childNodes) + "\n"
    if isinstance(node, Element):
        attributes = "".join(f" {name}={quoteattr(value)}" for name, value in node.attributes.items())
        content = "".join(_serialise(child) for child in node.childNodes)
        return (
            f"<{node.tagName}{attributes}>{content}</{node.tagName}>" if content else f"<{node.tagName}{attributes}/>"
        )
    if node.nodeType == Node.TEXT_NODE:
        return escape(node.nodeValue or "", {"\r": "&#13;"})
    return str(node.toxml())  # comments, processing instructions, CDATA


def _xml_characters(text: str) -> str:
    """Remove the characters that XML 1.0 cannot represent: control characters and lone surrogates."""
    return "".join(
        letter
        for letter in text
        if letter in "\t\n\r" or " " <= letter < "\ud800" or "\ue000" <= letter < "\ufffe" or letter > "\uffff"
    )
