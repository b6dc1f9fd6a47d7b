// The limits of a task log as an empty configuration gives them.
import { bus, taskLogSettings } from '../../sidecar/bus/settings.ts';
import { settingsOf } from '../../sidecar/settings/settings-of.ts';

export const DEFAULT_LOG_SETTINGS = taskLogSettings(settingsOf(bus, bus.parse({})));
