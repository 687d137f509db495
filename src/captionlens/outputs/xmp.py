"""Captions in XMP, the metadata format of photo programs.

Two properties hold the caption: `dc:description` (XMP specification part 1, ISO 16684-1, Dublin Core) and
`Iptc4xmpCore:AltTextAccessibility` (IPTC Photo Metadata Standard 2021.1, "Alt Text (Accessibility)"). Both are
language alternatives, of which only `x-default` is written.
"""

import io
from xml.dom.minidom import Document, Element, Node
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape, quoteattr

from defusedxml import DefusedXmlException, minidom

_NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
}
_XML, _XMLNS = "http://www.w3.org/XML/1998/namespace", "http://www.w3.org/2000/xmlns/"
_OURS = (("dc", "description"), ("Iptc4xmpCore", "AltTextAccessibility"))

# The packet wrapper of ISO 16684-1, section 7.3.2.
_EMPTY = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="captionlens">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
   xmlns:Iptc4xmpCore="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/">
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def packet(text: str) -> bytes:
    """A new XMP packet, in UTF-8, with the caption alone."""
    return describe(_EMPTY.encode(), text)


def describe(existing: bytes, text: str) -> bytes:
    """Replace the caption in an existing XMP packet and keep everything else.

    Descriptions in named languages stay as they are.

    Raises:
        ValueError: `existing` is not XMP that can be changed safely; the message gives the cause.
    """
    try:
        document = minidom.parse(io.BytesIO(existing), forbid_dtd=True)
    except DefusedXmlException as error:
        raise ValueError("declares a document type or entities, which XMP never does") from error
    except (ExpatError, UnicodeError, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"not well-formed XML ({error})") from error
    try:
        found = document.getElementsByTagNameNS(_NAMESPACES["rdf"], "RDF")
        if not found:
            raise ValueError("XML, but not XMP: it has no rdf:RDF")
        for prefix, name in _OURS:
            _set(document, found[0], prefix, name, _xml_characters(text))
        return _serialise(document).encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


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
