"""What Debian's cloud-init makes of seeds: usage: cloud_init.py DOC_ROOT FOLDER...

Each folder has a seed's documents. Prints one line of JSON for each: what cloud-init's own modules make of
them, in the words of the test that compares it. DOC_ROOT is where its modules may write.
"""
import base64
import json
import logging
import os
import sys

logging.disable(logging.CRITICAL)

from cloudinit import helpers, safeyaml, sources, user_data, util
from cloudinit.config import cc_write_files
from cloudinit.handlers import cloud_config
from cloudinit.net import eni, network_state
from cloudinit.sources import DataSourceConfigDrive, convert_vendordata
from cloudinit.sources.helpers import openstack

load = getattr(util, "load_yaml", None) or safeyaml.load
PATHS = helpers.Paths({"cloud_dir": sys.argv[1], "run_dir": sys.argv[1]})


def nothing_is_fetched(url, **_):
    raise OSError(f"{url}: nothing is fetched")


user_data.read_file_or_url = nothing_is_fetched


class Cloud:
    def __init__(self, meta):
        self.metadata = meta

    def get_hostname(self, fqdn=False, resolve_ip=False, metadata_only=False):
        return sources.DataSource.get_hostname(self, fqdn, resolve_ip, metadata_only)


def configuration(raw):
    """The cloud-configs of user-data or vendor-data, merged by cloud-init's own handler; the kinds of all
    parts; and the scripts as its handler of these writes them."""
    handler = cloud_config.CloudConfigPartHandler(PATHS)
    handler.handle_part(None, "__begin__", None, None, None, None)
    written = {}
    handler._write_cloud_config = lambda: written.update(handler.cloud_buf or {})
    kinds, scripts = [], {}
    for number, part in enumerate(user_data.UserDataProcessor(PATHS).process(raw).walk()):
        if part.get_content_maintype() == "multipart":
            continue
        kind = part.get_content_type()
        kinds.append(kind)
        if kind == "text/cloud-config":
            payload = util.decode_binary(util.fully_decoded_payload(part))
            handler.handle_part(None, kind, f"part-{number}", payload, None, dict(part))
        if kind == "text/x-shellscript":
            payload = util.dos2unix(util.fully_decoded_payload(part))
            scripts[util.clean_filename(part.get_filename())] = util.decode_binary(payload)
    handler.handle_part(None, "__end__", None, None, None, None)
    return written, kinds, scripts


def turns(vendors, users, commands):
    """What is run, in the order in which cloud-init runs folders of scripts, of which `runcmd` is one."""
    ours = users | ({"runcmd": None} if commands else {})
    return [[f"vendor/{name}", vendors[name]] for name in sorted(vendors)] + [
        [name, ours[name]] for name in sorted(ours)
    ]


def files(entries):
    for entry in entries or []:
        if not entry.get("path"):
            continue
        kinds = cc_write_files.canonicalize_extraction(entry.get("encoding"))
        content = cc_write_files.extract_contents(entry.get("content", ""), kinds)
        content = content.encode() if isinstance(content, str) else content
        default = cc_write_files.DEFAULT_PERMS
        yield {
            "path": os.path.abspath(entry["path"]),
            "mode": cc_write_files.decode_perms(entry.get("permissions"), default),
            "owner": str(entry.get("owner", "root:root")),
            "append": bool(util.get_cfg_option_bool(entry, "append")),
            "content": base64.b64encode(content).decode(),
        }


def matched(config):
    """By which name an interface is known of which version 2 says that, by the name that it has for it."""
    names = {}
    for name, ethernet in (config.get("ethernets") or {}).items() if config.get("version") == 2 else []:
        match = ethernet.get("match") or {}
        if "match" in ethernet and not match.get("macaddress"):
            known = match.get("name")
            names[ethernet.get("set-name", name)] = None if known == "*" else known
    return names


def network(config):
    config = config.get("network", config)
    state = network_state.parse_net_config_data(config)
    names = matched(config)
    found = []
    for interface in state.iter_interfaces():
        subnets = interface.get("subnets") or []
        if interface["type"] != "physical" or not subnets:
            continue
        gateways = [subnet["gateway"] for subnet in subnets if subnet.get("gateway")]
        for route in sum([subnet.get("routes", []) for subnet in subnets], list(state.iter_routes())):
            if route.get("prefix") == 0 and route.get("gateway"):
                gateways.append(route["gateway"])
        servers = sum([subnet.get("dns_nameservers", []) for subnet in subnets], [])
        servers += (interface.get("dns") or {}).get("nameservers", []) + state.dns_nameservers
        found.append({
            "name": names.get(interface["name"], interface["name"]),
            "mac": (interface.get("mac_address") or "").lower(),
            "addresses": [f"{s['address']}/{s['prefix']}" for s in subnets if s["type"].startswith("static")],
            "dhcp4": any(s["type"] in ("dhcp", "dhcp4") for s in subnets),
            "gateways": sorted(set(gateways)),
            "nameservers": sorted(set(servers)),
            "mtu": interface.get("mtu"),
        })
    return [one for one in found if one["addresses"] or one["dhcp4"]]


def made_of(meta, user, vendor, injected=(), vendor2=""):
    """What meta-data, user-data and vendor-data come to."""
    config, kinds, scripts = configuration(user)
    vendor, _, vendor_scripts = configuration(vendor)
    vendor2, _, vendor2_scripts = configuration(vendor2)
    vendor_scripts |= vendor2_scripts
    config = util.mergemanydict([config, vendor2, vendor])
    names = util.get_hostname_fqdn(config, Cloud(meta), metadata_only=True)
    fqdn = util.get_cfg_option_bool(config, "prefer_fqdn_over_hostname")
    hostname = names.fqdn if fqdn else names.hostname
    def commands(key):
        listed = config.get(key)
        return [one for one in listed if isinstance(one, (list, str)) and one] if isinstance(listed, list) else []

    ntp = config.get("ntp") or {}
    instance = meta.get("instance-id")
    return {
        "kinds": kinds,
        "instance_id": instance if instance is None else str(instance),
        "hostname": None if util.get_cfg_option_bool(config, "preserve_hostname") else hostname,
        "files": list(injected) + list(files(config.get("write_files"))),
        "bootcmd": commands("bootcmd"),
        "runcmd": commands("runcmd"),
        "turns": turns(vendor_scripts, scripts, commands("runcmd")),
        "ntp": sum([ntp.get(key) or [] for key in ("pools", "servers")], []) if ntp.get("enabled", True) else [],
    }


def config_drive(folder):
    drive = DataSourceConfigDrive.read_config_drive(folder)
    injected = [
        {
            "path": os.path.join("/", path),
            # As its write_injected_files has it.
            "mode": 0o660,
            "owner": "root:root",
            "append": False,
            "content": base64.b64encode(content).decode(),
        }
        for path, content in drive["files"].items()
    ]
    vendor = convert_vendordata(drive.get("vendordata"))
    vendor2 = convert_vendordata(drive.get("vendordata2")) or ""
    found = made_of(drive["metadata"], drive.get("userdata"), vendor or "", injected, vendor2)
    links = drive.get("networkdata")
    try:
        if links:
            macs = [link.get("ethernet_mac_address") for link in links.get("links", [])]
            names = {mac.lower(): f"eth{number}" for number, mac in enumerate(macs) if mac}
            found["network"] = network(openstack.convert_net_json(links, known_macs=names))
        elif drive.get("network_config"):
            found["network"] = network(eni.convert_eni_data(drive["network_config"]))
    except Exception as error:
        found["network_error"] = repr(error)
    return found


def seed(folder):
    if os.path.isdir(os.path.join(folder, "openstack")):
        return config_drive(folder)
    documents = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            documents[name] = file.read()
    meta = load(documents.get("meta-data", b"") or b"{}", default=None) or {}
    found = made_of(meta, documents.get("user-data", b""), documents.get("vendor-data", b""))
    try:
        if "network-config" in documents:
            found["network"] = network(load(documents["network-config"], default=None))
        elif meta.get("network-interfaces"):
            found["network"] = network(eni.convert_eni_data(meta["network-interfaces"]))
    except Exception as error:
        found["network_error"] = repr(error)
    return found


for folder in sys.argv[2:]:
    try:
        found = seed(folder)
    except Exception as error:
        found = {"error": repr(error)}
    print(json.dumps(found, default=str), flush=True)
