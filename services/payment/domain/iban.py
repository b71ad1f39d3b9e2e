"""IBANs (ISO 13616), checked by length, form, check digits, and the national digits where there are such."""

from stdnum import iban
from stdnum.exceptions import InvalidChecksum, InvalidComponent, InvalidFormat, InvalidLength, ValidationError

from services.payment.domain.method import IbanRefused

RULES: dict[type[ValidationError], str] = {
    InvalidLength: "its length is not that of its country",
    InvalidFormat: "its form is not that of its country",
    InvalidChecksum: "its check digits are wrong",
    InvalidComponent: "its country has no IBANs",
}


def _national(number: str) -> None:
    """Checks the national digits. That a bank is not on a list is no error: lists grow old."""
    try:
        iban.validate(number)
    except InvalidComponent:
        return


def checked(text: str, field: str) -> str:
    """The IBAN without spaces, in capitals. Raises IbanRefused."""
    try:
        number = str(iban.validate(text, check_country=False))
        _national(number)
    except ValidationError as error:
        rule = RULES.get(type(error), "it is none")
        raise IbanRefused(rule=rule, field=field) from None
    return number
