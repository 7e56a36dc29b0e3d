//! `UMB-IMPORT`, `UMB-DRIFT`: what Exchange and Lync printed, read and compared.

use super::registry;

registry! {
    IMPORT_FILE = "UMB-IMPORT001", "export cannot be read", sip None, ms None,
        cause "The file is missing, too long, nested too deep, or no JSON in UTF-8 or UTF-16.", exchange "", lync "", umbra "Make it with the script of `umbra export powershell --side exchange --collect` (or `--side lync`), or with ConvertTo-Json.";
    IMPORT_EMPTY = "UMB-IMPORT002", "nothing in the export is known", sip None, ms None,
        cause "No object in the files has the properties of a UM or Lync object that is read here, or they are empty.", exchange "", lync "", umbra "Collect with the script of `umbra export powershell --collect`.";
    IMPORT_VALUE = "UMB-IMPORT003", "required property not understood", sip None, ms None,
        cause "A property that nothing can replace has a value that is none of its words; ConvertTo-Json alone writes enumerations as numbers, whose meaning is not documented.", exchange "", lync "", umbra "Collect with the script of `umbra export powershell --collect`, which writes words.";
    DRIFT_MISSING = "UMB-DRIFT001", "object is missing here", sip None, ms None,
        cause "Exchange or Lync has the object, this configuration has not.", exchange "", lync "", umbra "Add it (`umbra import` prints its table), or remove it there.";
    DRIFT_EXTRA = "UMB-DRIFT002", "object is only here", sip None, ms None,
        cause "This configuration has the object, the export of Exchange or Lync has not.", exchange "Make it: `umbra export powershell --side exchange`.", lync "Make it: `umbra export powershell --side lync`.", umbra "Or remove it here.";
    DRIFT_VALUE = "UMB-DRIFT003", "value differs", sip None, ms None,
        cause "Exchange or Lync and this configuration say different things of one object; calls go by what each of them believes.", exchange "", lync "", umbra "Take over the value that is right, on the side that is wrong.";
}
