"""Countries: where an address is, from the operator's own networks first and from registry data second.

Nothing leaves the machine. The second source is the package `iptocc` (MIT or Apache-2.0): the allocations of the five
Regional Internet Registries, IPv4 and IPv6, inside its wheel of 0.6 MB. It tells to which country a block was
*assigned*, which is not always where it is used (95 % agreement with MaxMind's data: Zander 2012); where that matters,
the inventory's `countries` has the last word, the longest prefix winning.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence

from pingmesh_tasks.errors import ConfigError

#: What stands for a country where there is none: an address of no public network, and one that nobody knows.
LOCAL = "local"
UNKNOWN = "unknown"

#: Answers a batch of addresses with ISO 3166 codes of two letters, or None.
Registry = Callable[[list[str]], Sequence[str | None]]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Countries:
    """The country of each address. `networks` maps CIDR blocks to codes of two letters and is asked first."""

    def __init__(self, networks: Mapping[str, str] | None = None, registry: Registry | None = None) -> None:
        """Raise ConfigError where a network is none. `registry` None is `iptocc`, loaded when first needed."""
        blocks: dict[tuple[int, int], dict[int, str]] = {}
        for text, country in (networks or {}).items():
            try:
                network = ipaddress.ip_network(text)
            except ValueError as fault:
                raise ConfigError(f"countries: {fault}; write a network such as 198.51.100.0/24") from None
            shift = network.max_prefixlen - network.prefixlen
            blocks.setdefault((network.version, shift), {})[int(network.network_address) >> shift] = country
        self._blocks = sorted(blocks.items(), key=lambda block: block[0][1])  # the longest prefix has the least shift
        self._registry = registry

    def of(self, addresses: Sequence[str]) -> list[str]:
        """Return for each address its country's code, LOCAL or UNKNOWN. An address is text from a log: anything.

        Raises ConfigError where an address is for the registry data and they are not installed.
        """
        parsed = [_parse(text) for text in addresses]
        found = [self._own(address) for address in parsed]
        asked = [i for i, address in enumerate(parsed) if address is not None and found[i] is None]
        if asked:
            registry = self._registry or _load_registry()
            answers = registry([str(parsed[i]) for i in asked])
            for i, country in zip(asked, answers, strict=True):
                found[i] = country
        return [country or UNKNOWN for country in found]

    def _own(self, address: _Address | None) -> str | None:
        """Return what is known without the registry, or None."""
        if address is None:
            return None
        for (version, shift), block in self._blocks:
            if version == address.version and (country := block.get(int(address) >> shift)):
                return country
        return None if address.is_global else LOCAL


def _parse(text: str) -> _Address | None:
    """Return the address that `text` is, out of its IPv6 wrapping and without its zone, or None."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _load_registry() -> Registry:
    try:
        from iptocc import country_code
    except ImportError:
        raise ConfigError(
            "the countries of addresses need the package iptocc, which is not installed; run `pip install iptocc`, "
            "or name the networks under `countries` of the log server in the inventory"
        ) from None
    registry: Registry = country_code
    return registry
