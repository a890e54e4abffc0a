/** The columns of the cargo report, and of a file to import, in order. */
export const cargoColumns = [
  'number',
  'commodity',
  'origin',
  'destination',
  'weight',
  'shipped_at',
  'delivered_on'
] as const

/**
 * `id` is the row's own key and the order of every report; `number` is what the file says and may occur again in
 * another import. An empty cell is '' in a text column and NULL in `delivered_on`, so a file loses nothing.
 */
export const createTables = `
  CREATE TABLE imports (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file_name text NOT NULL,
    imported_at timestamptz NOT NULL DEFAULT now()
  );
  CREATE TABLE cargoes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    import_id integer REFERENCES imports,
    number bigint NOT NULL,
    commodity text NOT NULL,
    origin text NOT NULL,
    destination text NOT NULL,
    weight numeric(12, 3) NOT NULL,
    shipped_at timestamptz NOT NULL,
    delivered_on date
  );
  -- The order of one import's report; the sample rows belong to none and cost it nothing.
  CREATE INDEX cargoes_of_import ON cargoes (import_id, id) WHERE import_id IS NOT NULL;
`
