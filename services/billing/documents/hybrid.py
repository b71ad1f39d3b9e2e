"""Factur-X: a page to print with its XML inside, in one PDF/A-3 file.

Typst embeds the XML; what it cannot write is the metadata by which readers know the file as Factur-X
(Factur-X 1.0, part 6.2.2): its properties, and their schema as PDF/A wants it.
"""

from io import BytesIO

PREFIX, NAMESPACE = "fx", "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"
NAME = "factur-x.xml"
PROPERTIES = {
    "DocumentFileName": ("The name of the embedded XML document", NAME),
    "DocumentType": ("The type of the hybrid document", "INVOICE"),
    "Version": ("The version of the standard that the XML follows", "1.0"),
    "ConformanceLevel": ("The profile that the XML follows", "EN 16931"),
}
SCHEMAS_END, FACTS_END = b"</rdf:Bag></pdfaExtension:schemas>", b"</rdf:Description></rdf:RDF>"


def declared(pdf: bytes) -> bytes:
    """The PDF/A-3 file of Typst, declared to be Factur-X; the same bytes for the same file."""
    from pypdf import PdfWriter
    from pypdf.generic import NameObject, StreamObject

    writer = PdfWriter(clone_from=BytesIO(pdf))
    writer.pdf_header = "%PDF-1.7"  # Of ISO 32000-1, which PDF/A-3 restricts.
    metadata = writer.root_object["/Metadata"].get_object()
    assert isinstance(metadata, StreamObject)
    assert metadata.indirect_reference
    told = StreamObject()
    told.set_data(_with_properties(metadata.get_data()))
    told.update({NameObject("/Type"): NameObject("/Metadata"), NameObject("/Subtype"): NameObject("/XML")})
    writer._replace_object(metadata.indirect_reference, told)
    made = BytesIO()
    writer.write(made)
    return made.getvalue()


def _with_properties(packet: bytes) -> bytes:
    """The XMP packet with Factur-X's properties and their schema."""
    for mark in (SCHEMAS_END, FACTS_END):
        assert packet.count(mark) == 1, "Typst writes its metadata otherwise than it did"
    schema = "".join(
        '<rdf:li rdf:parseType="Resource">'
        f"<pdfaProperty:category>external</pdfaProperty:category>"
        f"<pdfaProperty:description>{meaning}</pdfaProperty:description>"
        f"<pdfaProperty:name>{name}</pdfaProperty:name>"
        "<pdfaProperty:valueType>Text</pdfaProperty:valueType></rdf:li>"
        for name, (meaning, _) in PROPERTIES.items()
    )
    described = (
        '<rdf:li rdf:parseType="Resource">'
        "<pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>"
        f"<pdfaSchema:namespaceURI>{NAMESPACE}</pdfaSchema:namespaceURI>"
        f"<pdfaSchema:prefix>{PREFIX}</pdfaSchema:prefix>"
        f"<pdfaSchema:property><rdf:Seq>{schema}</rdf:Seq></pdfaSchema:property></rdf:li>"
    )
    facts = "".join(
        f'<{PREFIX}:{name} xmlns:{PREFIX}="{NAMESPACE}">{value}</{PREFIX}:{name}>'
        for name, (_, value) in PROPERTIES.items()
    )
    packet = packet.replace(SCHEMAS_END, described.encode() + SCHEMAS_END)
    return packet.replace(FACTS_END, facts.encode() + FACTS_END)
