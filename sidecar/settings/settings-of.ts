/**
 * Converts settings from their form in the configuration to the form in the code: camel case, units in the names, every
 * key present, durations in milliseconds. So a setting needs only its declaration; its type and its value follow from
 * it.
 */
import * as z from 'zod';
import { FrozenMap } from './frozen-map.ts';
import { type Duration, kinds } from './kinds.ts';

type CamelCase<Name extends string> = Name extends `${infer First}_${infer Rest}`
  ? `${First}${Capitalize<CamelCase<Rest>>}`
  : Name;

type SettingName<Key extends string, Value> =
  NonNullable<Value> extends Duration ? `${CamelCase<Key>}Ms` : CamelCase<Key>;

/** `max_wait: '5s'` becomes `maxWaitMs: 5000`; null and absent values become undefined, except lists and maps. */
type SettingsFrom<Value> = Value extends null
  ? undefined
  : Value extends Duration
    ? number
    : Value extends readonly (infer Item)[]
      ? readonly SettingsFrom<Item>[]
      : string extends keyof Value
        ? MapFrom<Value[keyof Value]>
        : Value extends object
          ? {
              readonly [Key in Extract<keyof Value, string> as SettingName<Key, Value[Key]>]: SettingsFrom<
                Present<Value[Key]>
              >;
            }
          : Value;

/** An absent list or map is empty. */
type Present<Value> = undefined extends Value
  ? NonNullable<Value> extends readonly unknown[]
    ? NonNullable<Value>
    : string extends keyof NonNullable<Value>
      ? NonNullable<Value>
      : Value
  : Value;

/** A map of sections becomes a Map whose sections have their name; any other map stays a record. */
type MapFrom<Value> = Value extends object
  ? ReadonlyMap<string, SettingsFrom<Value> & { readonly name: string }>
  : Readonly<Record<string, SettingsFrom<Value>>>;

/** The type of a declared setting in the code. */
export type SettingsOf<Schema extends z.ZodType> = SettingsFrom<z.output<Schema>>;

/** Converts `value`, which `schema` has already validated, to its form in the code. */
export function settingsOf<Schema extends z.ZodType>(
  schema: Schema,
  value: z.output<Schema>,
): SettingsOf<Schema> {
  return read(schema, value) as SettingsOf<Schema>;
}

function read(schema: z.ZodType, value: unknown): unknown {
  if (value === null) return undefined;
  const bare = bareOf(schema);
  if (value === undefined) return emptyOf(bare);
  if (bare instanceof z.ZodObject) {
    const section = value as Readonly<Record<string, unknown>>;
    const settings: Record<string, unknown> = {};
    for (const [key, inner] of Object.entries<z.ZodType>(bare.shape))
      settings[settingName(key, inner)] = read(inner, section[key]);
    return settings;
  }
  if (bare instanceof z.ZodArray)
    return (value as readonly unknown[]).map((item) => read(bare.element as z.ZodType, item));
  if (bare instanceof z.ZodRecord) {
    const { keyType, valueType } = bare as z.ZodRecord;
    const entries = Object.entries(value as Readonly<Record<string, unknown>>);
    if (bareOf(valueType as z.ZodType) instanceof z.ZodObject)
      return new FrozenMap(
        entries.map(([name, inner]) => [name, { name, ...(read(valueType as z.ZodType, inner) as object) }]),
      );
    return Object.fromEntries(
      entries.map(([key, inner]) => [read(keyType as z.ZodType, key), read(valueType as z.ZodType, inner)]),
    );
  }
  const kind = kinds.get(bare);
  return kind?.read === undefined ? value : kind.read(value as never);
}

function emptyOf(bare: z.ZodType): unknown {
  if (bare instanceof z.ZodArray) return [];
  return bare instanceof z.ZodRecord ? {} : undefined;
}

function settingName(key: string, schema: z.ZodType): string {
  const name = key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  return `${name}${kinds.get(bareOf(schema))?.unit ?? ''}`;
}

/** The schema without defaults, "optional" and "or null". */
function bareOf(schema: z.ZodType): z.ZodType {
  let bare = schema;
  while (
    bare instanceof z.ZodDefault ||
    bare instanceof z.ZodPrefault ||
    bare instanceof z.ZodOptional ||
    bare instanceof z.ZodNullable
  )
    bare = bare.unwrap() as z.ZodType;
  return bare;
}
