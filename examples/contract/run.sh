#!/usr/bin/env bash
# The published examples of the cFos contract, with curl and mosquitto_pub as they stand there, against a Ladekern of
# their own. Prints each command and what came back, and fails if that is not what the contract says.
#
#   examples/contract/run.sh [path of the ladekern program]
#
# Ports: HTTP_PORT (4712) and MQTT_PORT (1883). Needs curl, mosquitto_pub and mosquitto_sub.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=${1:-$here/../../target/debug/ladekern}
http_port=${HTTP_PORT:-4712}
mqtt_port=${MQTT_PORT:-1883}
url="http://127.0.0.1:$http_port"
failures=0

for tool in curl mosquitto_pub mosquitto_sub "$program"; do
    command -v "$tool" >/dev/null || { echo "run.sh: $tool is missing" >&2; exit 2; }
done

# Calls of the API change the configuration file, so this site gets a copy.
folder=$(mktemp -d)
daemon= listener=
finish() {
    [ -z "$listener" ] || kill "$listener" 2>/dev/null || true
    [ -z "$daemon" ] || { kill "$daemon" 2>/dev/null || true; wait "$daemon" 2>/dev/null || true; }
    rm -rf "$folder"
}
trap finish EXIT
cp "$here/ladekern.toml" "$folder/"
"$program" run --config "$folder/ladekern.toml" --set "http.listen=127.0.0.1:$http_port" \
    --set "mqtt.embedded_listen=127.0.0.1:$mqtt_port" >"$folder/log" 2>&1 &
daemon=$!

# Waits until a command succeeds.
soon() {
    for _ in $(seq 200); do
        "$@" >/dev/null 2>&1 && return 0
        kill -0 "$daemon" 2>/dev/null || { echo "run.sh: ladekern has ended:" >&2; cat "$folder/log" >&2; exit 1; }
        sleep 0.05
    done
    return 1
}

# Everything that is published, one line per message: topic and payload.
listen() { mosquitto_sub -h 127.0.0.1 -p "$mqtt_port" -V 5 -t 'cfos_mqtt/#' -v >"$folder/seen"; }
soon curl -sf "$url/healthz" || { echo "run.sh: nobody answers at $url" >&2; cat "$folder/log" >&2; exit 1; }
listen &
listener=$!
soon grep -q '^cfos_mqtt/get/online true' "$folder/seen"
soon grep -q '^cfos_mqtt/get/dev_info' "$folder/seen"

judge() { # wanted, got
    local shown=$2
    [ ${#shown} -le 300 ] || shown="${shown:0:300} … (${#2} characters)"
    printf '  %s\n' "$shown"
    if [[ $2 != *"$1"* ]]; then
        printf '  WRONG: expected %s\n' "$1"
        failures=$((failures + 1))
    fi
}

# curl … and a piece of the answer that must come back.
call() { # wanted, arguments of curl
    local wanted=$1 got
    shift
    printf '$ curl %s\n' "${*@Q}"
    got=$(curl -s "$@")
    judge "$wanted" "$got"
}

# mosquitto_pub … and a line that must then be published.
publish() { # wanted topic, wanted piece, arguments of mosquitto_pub
    local topic=$1 wanted=$2 before got
    shift 2
    before=$(wc -l <"$folder/seen")
    printf '$ mosquitto_pub %s\n' "${*@Q}"
    mosquitto_pub -h 127.0.0.1 -p "$mqtt_port" -q 1 "$@"
    newer() { tail -n +$((before + 1)) "$folder/seen" | grep "^$topic "; }
    newer_as_wanted() { newer | grep -F -- "$wanted"; }
    if soon newer_as_wanted; then got=$(newer_as_wanted | head -1); else got=$(newer | tail -1 || true); fi
    judge "$wanted" "$got"
}

echo "# Reading"
call '"version":"2.0.1"' "$url/cnf?cmd=get_dev_info"
call '"max_total_cur_prc":100' "$url/cnf?cmd=get_params"
call '"meter_ajax":"HTTP input"' "$url/cnf?cmd=get_dev_types"

echo "# A meter that is fed over HTTP"
call '"ok"' -u admin:1234abcd -H 'Content-Type: application/json' -X POST \
    -d '{"model":"TestModell","import_wh":12345,"export_wh":23456,"voltage":[231,232,233],"current":[10001,10002,10003]}' \
    "$url/cnf?cmd=set_ajax_meter&dev_id=M1"
call '"ok"' -u admin:1234abcd "$url/cnf?cmd=set_ajax_meter&dev_id=M1&voltage=231,232,233&current=10001,10002,10003"

echo "# A meter that is fed over MQTT"
publish cfos_mqtt/get/M3 '"import":12345' -t cfos_mqtt/set/M3 \
    -m '{"model":"TestModell","import_wh":12345,"export_wh":23456,"voltage":[231,232,233],"current":[10001,10002,10003]}'

echo "# Two wallboxes with a car"
publish cfos_mqtt/get/E1 '"state":2' -t cfos_mqtt/set/E1 -m '{"state":2,"current":[0,0,0],"total_energy":1000}'
publish cfos_mqtt/get/E2 '"state":2' -t cfos_mqtt/set/E2 -m '{"state":2,"current":[0,0,0],"total_energy":2000}'

echo "# The API over MQTT"
publish cfos_mqtt/api_res '"version":"2.0.1"' -t 'cfos_mqtt/api/cmd=get_params' -n
publish cfos_mqtt/api_res '"ok"' -t 'cfos_mqtt/api/cmd=set_cm_vars&name=x&val=1' -n
publish cfos_mqtt/api_res '"name":"x"' -t 'cfos_mqtt/api/cmd=get_cm_vars' -n
publish cfos_mqtt/api_res '"ok"' -t 'cfos_mqtt/api/cmd=set_params' -m '{"max_total_cur_prc": 50}'
call '"max_total_cur_prc":50' "$url/cnf?cmd=get_params"
publish cfos_mqtt/api_res '"ok"' -t 'cfos_mqtt/api/cmd=enter_rfid&rfid=5678&dev_id=E1' -n
publish cfos_mqtt/api_res/7 '"error"' -t 'cfos_mqtt/api/cmd=nonsense&_rid=7' -n

echo "# Direct control: the published message, member names without quotes"
publish cfos_mqtt/get/E1 '"last_set_charging_cur":8000' -t cfos_mqtt/ctl -m '{"E1": {cur: 8000, ena: true}, "E2": {cur: 10000}}'
call '"last_set_charging_cur":10000' "$url/cnf?cmd=get_dev_info"

echo "# Overrides, cards, variables and registers over HTTP"
call '"ok"' -u admin:1234abcd "$url/cnf?cmd=override_device&dev_id=E1&flags=C"
call '"overrides":1' "$url/cnf?cmd=get_dev_info"
call '"ok"' -u admin:1234abcd "$url/cnf?cmd=override_device&dev_id=E1&flags=c"
call '"ok"' "$url/cnf?cmd=enter_rfid&rfid=5678&dev_id=E1"
call '"ok"' -u admin:1234abcd -X POST -d '{"vars":[{"name":"tarif","expr":1}]}' "$url/cnf?cmd=set_cm_vars"
call '"tarif"' -u admin:1234abcd "$url/cnf?cmd=get_cm_vars"
call '160' -u admin:1234abcd "$url/cnf?cmd=modbus&device=evse&read=8081"
call '"bad modbus register size"' -u admin:1234abcd "$url/cnf?cmd=modbus&device=evse&read=8092d"
call '"unknown device"' -u admin:1234abcd "$url/cnf?cmd=modbus&device=nobody&read=8092"

echo "# A transaction: from plug-in to unplug"
publish cfos_mqtt/ta_log '"energy_wh":500' -t cfos_mqtt/set/E2 -m '{"state":1,"current":[0,0,0],"total_energy":2500}'
call '"dev_id":"E2"' -u admin:1234abcd "$url/api/transactions"

echo
if [ "$failures" -gt 0 ]; then
    echo "$failures answers were wrong"
    exit 1
fi
echo "all answers as the contract says"
