"""Where value added tax holds: members and their days in the Union, territories with rules of their own.

Directive 2006/112/EC, articles 5 to 8, and its annexes; the withdrawal agreement for Northern Ireland.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from zoneinfo import ZoneInfo

# Members, and the day each joined; those of before 2004 are there from the beginning.
FOUNDERS = "AT BE DE DK ES FI FR GB GR IE IT LU NL PT SE"
OF_2004 = "CY CZ EE HU LT LV MT PL SI SK"
JOINED = dict.fromkeys(FOUNDERS.split(), date.min) | dict.fromkeys(OF_2004.split(), date(2004, 5, 1))
JOINED |= dict.fromkeys(("BG", "RO"), date(2007, 1, 1)) | {"HR": date(2013, 7, 1)}
LEFT = {"GB": date(2021, 1, 1)}  # For value added tax: the end of the transition.
ALIASES = {"EL": "GR", "UK": "GB", "MC": "FR", "IM": "GB"}  # Monaco and Man belong to another's area.
NORTHERN_IRELAND = "XI"

ZONES = {
    zone: countries.split()
    for zone, countries in {
        "Asia/Nicosia": "CY",
        "Europe/Athens": "BG EE FI GR LT LV RO",
        "Europe/Berlin": "AT BE CH CZ DE DK ES FR HR HU IT LU MT NL NO PL SE SI SK",
        "Europe/London": "GB IE PT XI",
    }.items()
}
ZONE_OF = {country: ZoneInfo(zone) for zone, countries in ZONES.items() for country in countries}


class Standing(Enum):
    """What a territory is to the country that it is part of."""

    OWN_RATES = "own rates"  # In the Union's area, with rates of its own.
    OWN_AREA = "own area"  # Outside the Union's area; its country taxes there at rates of its own.
    OUTSIDE = "outside"  # Outside of both: what goes there is exported.


@dataclass(frozen=True, slots=True)
class Territory:
    """A part of a country that is taxed otherwise than the rest."""

    country: str
    region: str  # ISO 3166-2 where there is one.
    standing: Standing
    postcodes: re.Pattern[str]
    iso: str = ""  # Its own ISO 3166-1 code, where it has one.


def _territory(country: str, region: str, standing: Standing, postcodes: str, iso: str = "") -> Territory:
    return Territory(country, region, standing, re.compile(postcodes), iso)


TERRITORIES = (
    _territory("AT", "AT-JUNGHOLZ", Standing.OWN_RATES, r"6691"),
    _territory("AT", "AT-MITTELBERG", Standing.OWN_RATES, r"699[123]"),
    _territory("DE", "DE-BUESINGEN", Standing.OUTSIDE, r"78266"),
    _territory("DE", "DE-HELGOLAND", Standing.OUTSIDE, r"27498"),
    _territory("ES", "ES-CN", Standing.OUTSIDE, r"(35|38)\d{3}", "IC"),
    _territory("ES", "ES-CE", Standing.OUTSIDE, r"51\d{3}"),
    _territory("ES", "ES-ML", Standing.OUTSIDE, r"52\d{3}"),
    _territory("FI", "FI-01", Standing.OUTSIDE, r"22\d{3}", "AX"),
    _territory("FR", "FR-971", Standing.OWN_AREA, r"971\d{2}", "GP"),
    _territory("FR", "FR-972", Standing.OWN_AREA, r"972\d{2}", "MQ"),
    _territory("FR", "FR-973", Standing.OUTSIDE, r"973\d{2}", "GF"),
    _territory("FR", "FR-974", Standing.OWN_AREA, r"974\d{2}", "RE"),
    _territory("FR", "FR-976", Standing.OUTSIDE, r"976\d{2}", "YT"),
    _territory("GR", "GR-69", Standing.OUTSIDE, r"63086"),
    _territory("IT", "IT-CAMPIONE", Standing.OUTSIDE, r"2206[01]"),
    _territory("IT", "IT-LIVIGNO", Standing.OUTSIDE, r"2304[01]|23030"),
    _territory("PT", "PT-20", Standing.OWN_RATES, r"9[5-9]\d{2}(-?\d{3})?"),
    _territory("PT", "PT-30", Standing.OWN_RATES, r"9[0-4]\d{2}(-?\d{3})?"),
)
BY_ISO = {territory.iso: territory for territory in TERRITORIES if territory.iso}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a party is."""

    country: str  # ISO 3166-1 alpha-2; `XI` for Northern Ireland.
    territory: Territory | None = None

    @property
    def taxing(self) -> str:
        """The country whose rates hold there."""
        return "GB" if self.country == NORTHERN_IRELAND else self.country

    @property
    def region(self) -> str:
        return self.territory.region if self.territory else ""

    @property
    def outside(self) -> bool:
        """Its own country exports what goes there."""
        return self.territory is not None and self.territory.standing is Standing.OUTSIDE

    def in_union(self, day: date, *, goods: bool) -> bool:
        """Part of the Union's area on that day. Northern Ireland is, since it left, for goods alone."""
        if self.territory and self.territory.standing is not Standing.OWN_RATES:
            return False
        if self.country == NORTHERN_IRELAND and day >= LEFT["GB"]:
            return goods
        joined, left = JOINED.get(self.taxing), LEFT.get(self.taxing, date.max)
        return joined is not None and joined <= day < left

    def day(self, at: datetime) -> date:
        """The calendar's day there; by UTC where the zone is not known."""
        return at.astimezone(ZONE_OF.get(self.country, UTC)).date()


def place(country: str, postcode: str = "") -> Place:
    """Of an ISO code, or one that tax offices use instead."""
    if territory := BY_ISO.get(country):
        return Place(territory.country, territory)
    country = ALIASES.get(country, country)
    compact = re.sub(r"[\s]", "", postcode)
    for territory in TERRITORIES if compact else ():
        if territory.country == country and territory.postcodes.fullmatch(compact):
            return Place(country, territory)
    return Place(country)
