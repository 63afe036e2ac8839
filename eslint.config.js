import tseslint from "typescript-eslint";

/** What runs in browsers is checked with their types, all else with Node's. */
const PROJECTS = ["./tsconfig.json", "./src/tsconfig.core.json", "./test/browser/tsconfig.json"];

export default tseslint.config(
  { ignores: ["dist", "node_modules", "coverage"] },
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { project: PROJECTS, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        { allowNumber: true, allowBoolean: true },
      ],
    },
  },
);
