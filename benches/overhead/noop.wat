;; A filter that does nothing, with the callbacks that tidegate.wasm has: what any filter costs that
;; is told of every request and connection.
(module
  (memory (export "memory") 1)
  ;; Nothing asks the host for anything, so the host asks for no memory, but for the configuration.
  (func (export "malloc") (param i32) (result i32) i32.const 1024)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 1)
  (func (export "proxy_on_tick") (param i32))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 0)
  (func (export "proxy_on_new_connection") (param i32) (result i32) i32.const 0)
  (func (export "proxy_on_delete") (param i32)))
