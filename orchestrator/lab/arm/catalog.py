"""What Azure offers, as far as the emulator knows it: regions, disk sizes, capabilities. Constant data, no state."""

from __future__ import annotations

from orchestrator.core.desired.limits import limit
from orchestrator.core.desired.names import region_name
from orchestrator.lab.arm.protocol import Json

# ARM takes `northeurope` and answers `North Europe`. A region that is not listed is answered as it was sent.
_REGIONS = (
    "Australia East", "Brazil South", "Canada Central", "Canada East", "Central India", "Central US", "East Asia",
    "East US", "East US 2", "France Central", "Germany West Central", "Israel Central", "Italy North", "Japan East",
    "Japan West", "Korea Central", "North Central US", "North Europe", "Norway East", "Poland Central",
    "South Africa North", "South Central US", "South India", "Southeast Asia", "Spain Central", "Sweden Central",
    "Switzerland North", "UAE North", "UK South", "UK West", "West Europe", "West US", "West US 2", "West US 3",
)  # fmt: skip

# Size in GiB -> performance tier and IOPS of a Premium SSD (recorded capabilities of canadacentral, 2026-04-16).
PREMIUM_SSD: dict[int, tuple[str, int]] = {
    32: ("P4", 120), 64: ("P6", 240), 128: ("P10", 500), 256: ("P15", 1100), 512: ("P20", 2300), 1024: ("P30", 5000),
    2048: ("P40", 7500), 4096: ("P50", 7500), 8192: ("P60", 16000), 16384: ("P70", 18000), 32767: ("P80", 20000),
}  # fmt: skip

# Tier -> default size, and name -> (vCores, IOPS, MiB per vCore): the sizes most used, not all that Azure has.
_SKUS: dict[str, tuple[str, dict[str, tuple[int, int, int]]]] = {
    "Burstable": ("Standard_B2s", {
        "Standard_B1ms": (1, 640, 2048), "Standard_B2s": (2, 1280, 2048), "Standard_B2ms": (2, 1920, 4096),
        "Standard_B4ms": (4, 2880, 4096),
    }),
    "GeneralPurpose": ("Standard_D4ads_v5", {
        "Standard_D2ds_v4": (2, 3200, 4096), "Standard_D4ds_v4": (4, 6400, 4096), "Standard_D2ads_v5": (2, 3200, 4096),
        "Standard_D4ads_v5": (4, 6400, 4096), "Standard_D2ds_v5": (2, 3750, 4096), "Standard_D4ds_v5": (4, 6400, 4096),
        "Standard_D8ds_v5": (8, 12800, 4096), "Standard_D16ds_v5": (16, 25600, 4096),
    }),
    "MemoryOptimized": ("Standard_E4ads_v5", {
        "Standard_E2ds_v5": (2, 3750, 8192), "Standard_E4ds_v5": (4, 6400, 8192), "Standard_E4ads_v5": (4, 6400, 8192),
        "Standard_E8ds_v5": (8, 12800, 8192),
    }),
}  # fmt: skip


def display_name(location: str) -> str:
    return {region_name(name): name for name in _REGIONS}.get(region_name(location), location)


def capabilities() -> Json:
    """GET .../capabilities. A region can run elastic clusters when the feature `Clusters` is enabled in it."""
    entry = {
        "name": "FlexibleServerCapabilities",
        "supportedServerEditions": [_edition(tier) for tier in _SKUS],
        "supportedServerVersions": [
            {"name": version, "supportedVersionsToUpgrade": [], "supportedFeatures": []}
            for version in limit("postgres.versions").values
        ],
        "supportedFeatures": [{"name": "Clusters", "status": "Enabled"}],
        "fastProvisioningSupported": "Disabled",
        "geoBackupSupported": "Enabled",
        "zoneRedundantHaSupported": "Enabled",
        "storageAutoGrowthSupported": "Enabled",
        "onlineResizeSupported": "Enabled",
        "restricted": "Disabled",
    }
    return {"value": [entry]}


def _edition(tier: str) -> Json:
    default, sizes = _SKUS[tier]
    skus = [
        {
            "name": name, "vCores": cores, "supportedIops": iops, "supportedMemoryPerVcoreMb": memory,
            "supportedZones": ["1", "2", "3"], "supportedHaMode": ["SameZone", "ZoneRedundant"],
            "supportedFeatures": [],
        }
        for name, (cores, iops, memory) in sizes.items()
    ]  # fmt: skip
    disks = [
        {
            "storageSizeMb": size * 1024, "supportedIops": iops, "defaultIopsTier": name,
            "supportedIopsTiers": [{"name": name, "iops": iops}],
        }
        for size, (name, iops) in PREMIUM_SSD.items()
    ]  # fmt: skip
    storage = [{"name": "ManagedDisk", "defaultStorageSizeMb": 32768, "supportedStorageMb": disks}]
    return {"name": tier, "defaultSkuName": default, "supportedServerSkus": skus, "supportedStorageEditions": storage}


def quota_usages(subscription_id: str, location: str) -> Json:
    """GET .../usages. The lab has no quota of its own, so the numbers are an example: nothing used of 350 vCores."""
    base = f"/subscriptions/{subscription_id}/providers/Microsoft.DBforPostgreSQL/locations/{location}"
    usage = {
        "name": {"value": "standardDDSv5Family", "localizedValue": "Standard DDSv5 Family vCPUs"},
        "currentValue": 0, "limit": 350, "unit": "Count",
        "id": f"{base}/resourceType/flexibleServers/usages/standardDDSv5Family",
    }  # fmt: skip
    return {"value": [usage]}
